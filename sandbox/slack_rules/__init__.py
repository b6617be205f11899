"""The strict proxy between the bot, the browsers and local-slack, which by itself polices nothing.

Local-slack keeps the messages and draws the page. Everything in between is decided here, so that a bot that is right
with Slack is right here, and one that is wrong with Slack is refused here too.

Enforced, each by a name of `rules.Rule`, each can be switched off:
- tokens, token kinds, scopes, membership of channels (a private channel one is not in does not exist);
- Block Kit's documented limits for messages and views, in Slack's words (`limits.py`), `no_text`, `msg_too_long`,
  and the undocumented total of about 13,200 characters;
- one message a second and channel with short bursts, and the tiers of the methods: 429 with Retry-After;
- Socket Mode: one delivery per envelope, ten connections, 3 s to acknowledge, retries of events and of nothing else,
  routine `disconnect` frames;
- trigger ids (3 s, once), response addresses (five uses, 30 min, ephemeral unless they say otherwise), `hash` of views;
- edits and deletions of one's own messages only, `already_reacted`, registered slash commands only, required inputs.

Put right without a switch, because local-slack merely lacks it: block_id and action_id of one's own making, `state`,
`container` and button values in payloads, initial values, view ids that survive an update, a modal stack and a Home
tab for each person, ephemeral messages for their reader only and not in the history, pages of history,
`reply_broadcast`, user groups, events that are subscribed to, OAuth scope headers, dates and code as Slack's clients
show them. On request: latency, outages, failpoints.

Not enforced: the 3 s and retries of HTTP (Events API) apps, which local-slack serves by itself; `confirm` dialogs
(the page does not show them, and Slack's are on the client's side too); buttons and menus inside a modal (the page
draws them but does not send the click); shortcuts, external selects, metadata, attachments in the page, unknown
`thread_ts`, workspace-wide caps beyond a method's tier, signatures (Socket Mode has none). Methods that neither side
knows answer `unknown_method`.
"""
