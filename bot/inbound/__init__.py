"""What comes in is written down and answered at once; nothing is decided here."""
