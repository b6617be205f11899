"""A real PostgreSQL on a free loopback port, with a password of its own, in a data folder of its own."""

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
from psycopg import sql

from sandbox.addresses import free_port
from sandbox.part import Part, PartError

# PostgreSQL refuses to run as root, so root hands it to the user that Debian's package creates.
_UNPRIVILEGED = "postgres"


class Postgres:
    """`start` may be called again after a stop of any kind: same port, same data."""

    def __init__(self, folder: Path) -> None:
        self._binaries = binaries()
        self._user = _UNPRIVILEGED if os.geteuid() == 0 else None
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        # Kept as an attribute: the folder lives as long as this object.
        self._own_folder = None if self._reachable(folder) else tempfile.TemporaryDirectory(prefix="vllm-oncall-pg-")
        self.data = Path(self._own_folder.name if self._own_folder else folder) / "data"
        self._password = secrets.token_urlsafe(16)
        self._port = free_port()
        self.part = Part(
            "postgres",
            [
                str(self._binaries / "postgres"),
                *("-D", str(self.data)),
                *("-c", "listen_addresses=127.0.0.1"),
                *("-c", f"port={self._port}"),
                *("-c", "unix_socket_directories="),
            ],
            log=folder / "postgres.log",
            ready=self._accepts,
            user=self._user,
            cwd=Path("/"),
            stop_signal=signal.SIGINT,  # "fast": SIGTERM would wait until every client has left
        )

    def _reachable(self, folder: Path) -> bool:
        """Whether the unprivileged user can enter the folder: pytest's and mkdtemp's are closed to others."""
        return self._user is None or all(place.stat().st_mode & 0o001 for place in (folder, *folder.resolve().parents))

    @property
    def url(self) -> str:
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        return f"postgresql://postgres:{self._password}@127.0.0.1:{self._port}/{database}"

    def create_database(self, name: str) -> str:
        """Create an empty database; returns its URL."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url_of(name)

    def drop_database(self, name: str) -> None:
        """Also ends whoever is still connected to it."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def start(self) -> Self:
        if not (self.data / "PG_VERSION").exists():
            self._create_cluster()
        self.part.start()
        return self

    def stop(self) -> None:
        """ "Fast": transactions are rolled back, clients are cut off, the data is written."""
        self.part.stop()

    def stop_immediate(self) -> None:
        """As `pg_ctl stop -m immediate`: nothing is written; the next start recovers from the log."""
        os.kill(self.part.pid, signal.SIGQUIT)
        self.part.wait(10)

    def kill(self) -> None:
        self.part.kill()

    def freeze(self) -> None:
        """Stops the postmaster alone: open connections go on, new ones hang."""
        self.part.freeze()

    def thaw(self) -> None:
        self.part.thaw()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._own_folder is not None:
            self._own_folder.cleanup()

    def _accepts(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _create_cluster(self) -> None:
        self.data.mkdir(mode=0o700)
        if self._own_folder is not None:
            Path(self._own_folder.name).chmod(0o711)
        if self._user is not None:
            shutil.chown(self.data, self._user)
        with tempfile.NamedTemporaryFile("w", prefix="vllm-oncall-pg-") as password:
            password.write(self._password)
            password.flush()
            if self._user is not None:
                shutil.chown(password.name, self._user)
            # The C locale: sorting must not depend on the machine, and no locale has to be installed.
            options = ["--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
            wrapper = ["runuser", "-u", self._user, "--"] if self._user else []
            initdb = [*wrapper, str(self._binaries / "initdb"), "-D", str(self.data), f"--pwfile={password.name}"]
            done = subprocess.run([*initdb, *options], text=True, capture_output=True, cwd="/", timeout=60)
        if done.returncode != 0:
            raise PartError(f"initdb failed: {done.stderr.strip()}")


def binaries() -> Path:
    """Debian keeps them off the PATH, a folder per version. Raises PartError if there are none."""
    found = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "initdb").exists()]
    if found:
        return max(found, key=lambda path: int(path.parent.name))
    if on_path := shutil.which("initdb"):
        return Path(on_path).parent
    raise PartError("PostgreSQL is not installed: apt-get install -y --no-install-recommends postgresql")
