"""How fast the bot is, measured on the real parts: `make bench`. One file is one comparison."""
