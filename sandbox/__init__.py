"""The real parts, started on loopback for the demo and the tests: never imported by `bot/`.

A part is a child process (`part.py`) on free addresses (`addresses.py`). `world.py` starts them all together.
"""
