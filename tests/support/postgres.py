"""A PostgreSQL server of the test run: in a folder of its own, behind a socket in it, gone at the end.

One server for all tests; every catalog is a schema of its own in its one database, named in the URL's search_path.
"""

from __future__ import annotations

import atexit
import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from urllib.parse import quote

import pytest

BINARIES = ("/usr/lib/postgresql/15/bin", *(str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"))))
OWNER = "postgres"  # who the server runs as where the tests run as root, which it refuses to be
PASSWORD = "a-secret-of-the-tests"  # the server trusts its socket; no log and no answer may hold it
OPTIONS = "-c listen_addresses='' -c unix_socket_directories={folder} -c max_connections=400"


class Server:
    """Started with ``initdb`` and ``pg_ctl``, durable like a real one."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))  # a socket's path must be short
        self._numbers = itertools.count(1)
        if os.geteuid() == 0:
            owner = pwd.getpwnam(OWNER)
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
        self._data = str(self.folder / "data")
        self._run("initdb", "-D", self._data, "-U", OWNER, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N")
        self.start()

    def start(self) -> None:
        options = OPTIONS.format(folder=self.folder)
        self._run("pg_ctl", "-D", self._data, "-w", "-l", str(self.folder / "log"), "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        self._run("pg_ctl", "-D", self._data, "-w", "-m", mode, "stop")

    def remove(self) -> None:
        try:
            self.stop("immediate")
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def new_schema(self) -> str:
        """The URL of an empty catalog."""
        name = f"catalog_{next(self._numbers)}"
        self.sql(f"CREATE SCHEMA {name}")
        return self.url(search_path=name)

    def url(self, **settings: str) -> str:
        query = "&".join(
            f"{name}={quote(value, safe='')}" for name, value in {"host": str(self.folder), **settings}.items()
        )
        return f"postgresql://{OWNER}:{PASSWORD}@/{OWNER}?{query}"

    def sql(self, text: str) -> str:
        """What psql prints, one row a line, columns separated by ``|``."""
        command = [find("psql"), "-h", str(self.folder), "-U", OWNER, "-AtXq", "-v", "ON_ERROR_STOP=1", "-c", text]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def _run(self, program: str, *arguments: str) -> None:
        become = ["setpriv", f"--reuid={OWNER}", f"--regid={OWNER}", "--clear-groups"] if os.geteuid() == 0 else []
        log = self.folder / f"{program}.out"
        with log.open("w") as output:  # not a pipe: the server would inherit it and hold it open
            ended = subprocess.run([*become, find(program), *arguments], stdout=output, stderr=output, cwd="/")
        if ended.returncode:
            raise RuntimeError(f"{program} failed ({ended.returncode}):\n{log.read_text()}")


def find(program: str) -> str:
    """Where a program of the server is. Fails the test when it is missing, and says how to get it."""
    found = shutil.which(program, path=os.pathsep.join([*BINARIES, os.environ.get("PATH", "")]))
    if found is None:
        pytest.fail(f"{program} is not installed: run `make clients` (or tools/setup-clients initdb)", pytrace=False)
    return found


@cache
def server() -> Server:
    """The test run's, started when the first test asks for it."""
    find("initdb")
    started = Server()
    atexit.register(started.remove)
    return started
