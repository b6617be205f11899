"""A runbook as data: schema, loading, conditions, checking. Every mistake is named with its line."""
