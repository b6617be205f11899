"""The agent against a real GPU: every field beside nvidia-smi's, a sweep timed, a real Xid raised and followed.

`python -m sandbox.gpu_proof` on a machine with an NVIDIA GPU; elsewhere it says that nothing was proved, and exits
with 77.
"""
