"""vllm-oncall: an alert becomes a verdict in Slack, and a button that is safe to press.

The floors, from the roof to the ground; each may import only what stands below it (`tests/test_floors.py`):

    __main__                         the command line
    app, agent                       the two composition roots: build everything, start, stop
    inbound, leader, settings        what comes in; who works; what was configured
    commands                         one file = one /vllm subcommand
    announce                         what Slack shows of an incident
    remediation                      proposal, review, approval, guard, execution
    incidents                        alert, triage, round, verdict
    runbook                          the YAML: schema, loading, checking
    probes, actions                  one file = one read-only question, one change
    vllm                             what is known of vLLM and GPUs
    fleet, ports, report, audit      services, the world as we need it, text, the audit chain

`outbound` stands beside them: it implements `ports` and the domains' stores, and only the roots import it.
"""
