"""Free loopback ports, and a free 127.x.0.0/16 for pods, so that two sandboxes run side by side."""

import fcntl
import os
import random
import socket
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

# Below those that Linux gives to connections on their way out, of which one could take it in the meantime.
_PORTS = range(20_000, 30_000)
_chance = random.SystemRandom()  # tests that fix the seed shall not all get the same


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port nobody listens on now. Between now and its use another process may take it: start parts at once.
    Raises RuntimeError if all are taken."""
    for port in _chance.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe, suppress(OSError):
            probe.bind((host, port))
            return port
    raise RuntimeError(f"No free port on {host} from {_PORTS.start} to {_PORTS.stop - 1}.")


@dataclass(frozen=True)
class PodNetwork:
    """A /16 of loopback that is ours while the lock file is held (until `release`, or until the process ends)."""

    second_byte: int
    lock: IO[bytes]

    @property
    def cidr(self) -> str:
        return f"127.{self.second_byte}.0.0/16"

    def release(self) -> None:
        self.lock.close()


def free_pod_network() -> PodNetwork:
    """Raises RuntimeError if all 200 networks are taken."""
    folder = Path(tempfile.gettempdir()) / f"vllm-oncall-networks-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    # 127.0 is where everybody else's servers are, so it is never given out.
    for second_byte in _chance.sample(range(20, 220), 200):
        lock = (folder / str(second_byte)).open("wb")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        return PodNetwork(second_byte, lock)
    raise RuntimeError("No free 127.x.0.0/16 for pods: 200 sandboxes run already? Look for stray ones with `ss -ltnp`.")
