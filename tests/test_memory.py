import subprocess
import sys

# Freed again, a large answer's memory goes back, also after one that was larger.
LARGE = """
from bot.memory import be_frugal
if {told}: assert be_frugal()

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

import ctypes
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
libc.free(libc.malloc(30_000_000))  # from now on glibc takes what is smaller from its pool
before = resident()
for _ in range(3):
    blocks = []
    for _ in range(40):
        block = libc.malloc(1_000_000)
        ctypes.memset(block, 1, 1_000_000)
        blocks += [block, libc.malloc(2_000)]  # the small neighbour lives on
    for block in blocks[::2]:
        libc.free(block)
print((resident() - before) // 1_000_000)
"""


def left_megabytes(told: bool) -> int:
    """In a process of its own: what is told to the C library holds for all of it."""
    ran = subprocess.run([sys.executable, "-c", LARGE.format(told=told)], capture_output=True, text=True, check=True)
    return int(ran.stdout)


def test_what_large_answers_took_is_given_back():
    assert left_megabytes(told=True) < 5 < left_megabytes(told=False)
