"""The fault table: each row does something to real parts, waits until Prometheus and Kubernetes show it, lets the bot's
own diagnosis look through its own adapters, and compares the verdicts with those that the row expects.

Rows are data (`tests/faults/*.yaml`, form in `rows`). A scene is where one happens: on the fleet (`scene`), or on a
real vLLM (`real_scene`). `bot_side` is what the bot makes of it, `grading` the comparison, `table` what is printed.
"""
