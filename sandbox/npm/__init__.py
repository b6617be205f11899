"""What the sandbox takes from npm: the browser Slack."""
