"""A real vLLM on the CPU, as a pod of the sandbox's cluster: real scheduler, KV cache, metrics, deaths and exit codes.

Heavy (4 to 6 GB on disk, 2 GB of memory a server), so it is set up by itself: `python -m sandbox.real_vllm.install`.
"""
