"""What Slack shows of an incident, kept in step with the store: the card, the push, the thread."""
