"""What Slack shows of an incident, kept in step with the store. What happens here, in order:

view       everything the store knows of one incident, read at once
verdict    which verdict stands now: confirmed, inconclusive, nothing found, not run, no runbook
card       view -> the incident's one message, edited in place
readings   a probe's answer in words
evidence   a round as a message: what was asked, what came back, what follows
thread     view -> the thread: evidence of each round, what happened to it, in order
changes    a proposal's life in words, for the card and the thread
pushes     who is called, when, and with which words
amounts    numbers as people say them
graph      which curve belongs to a round, with its threshold and what happened along it
pace       how fast Slack may be talked to
seen       what Slack has of a card, as one short word
outbox     what this floor needs of the store
delivery   one call to Slack with what must be written before and after it
announcer  acts: looks at what is stale and due, and hands each channel its next delivery
"""
