"""Starts the command line, and imports everything for it."""

from bot.memory import without_collector

with without_collector():
    from bot.cli import main

if __name__ == "__main__":
    main()
