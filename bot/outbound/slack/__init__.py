"""Slack. What is in here, from the text to the call:

mrkdwn   our markup in Slack's words; the lock screen's text
blocks   Report and Modal -> Block Kit; the only place that makes blocks
limits   what Slack would refuse, asked before it is sent
errors   Slack's and the network's errors in ours: try later, look first, or do not try again
people   names of users and groups, members of groups, ids of channels; remembered for a while
chat     the Chat port on slack_sdk
"""
