"""From an alert to a verdict. What happens here, in order:

alert      the webhook's payload and the alert as we keep it
target     labels -> service, workload, pod, node, resolved through the API server
triage     deliveries -> incidents: open, join, reopen, resolve; flaps damped, storms gathered
reconcile  alerts that a truncated webhook or a lost resolve left in doubt: ask, never assume
rounds     rounds that are due -> diagnosed in a pool, written down; burning incidents get another
diagnose   one round: the runbook's steps side by side, the signal beside them
signal     the triggering signal as a number or a bucket, now and over time
judge      observations -> findings: confirmed, ruled out, inconclusive; pure
incident   the values, and what this floor needs of the store
"""
