"""A PostgreSQL server of the test run: in a folder of its own, behind a socket in it, gone at the end.

One server for all tests; every catalog is a schema of its own in its one database, named in the URL's search_path.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import itertools
import os
import pwd
import shutil
import sqlite3
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from urllib.parse import quote

import pytest

from regserver.storage.sql.migrate import migrate
from regserver.storage.sql.postgres import PostgresDatabase

BINARIES = ("/usr/lib/postgresql/15/bin", *(str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"))))
OWNER = "postgres"  # who the server runs as where the tests run as root, which it refuses to be
PASSWORD = "a-secret-of-the-tests"  # the server trusts its socket; no log and no answer may hold it
SHARED = "shared"
EMPTY_SHARED = f"""
SET session_replication_role = replica; -- whatever names what
DO $$ DECLARE found record; BEGIN
    FOR found IN SELECT tablename FROM pg_tables WHERE schemaname = '{SHARED}' AND tablename <> 'schema_migrations'
    LOOP EXECUTE 'DELETE FROM {SHARED}.' || found.tablename; END LOOP;
END $$;
"""
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

    def emptied_catalog(self) -> str:
        """The URL of a migrated catalog without rows: always the same one, so that making it costs no test a second."""
        url = self.url(search_path=SHARED)
        if not self.sql(f"SELECT to_regclass('{SHARED}.registries')").strip():
            self.sql(f"CREATE SCHEMA IF NOT EXISTS {SHARED}")
            with ThreadPoolExecutor(1) as threads:  # a loop may be running in this one
                threads.submit(asyncio.run, migrated(url)).result()
        self.sql(EMPTY_SHARED)
        return url

    def catalog_like(self, file: Path) -> str:
        """The same with the identity and the keys of the installation whose SQLite catalog this is."""
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as catalog:
            rows = catalog.execute("SELECT name, value FROM installation").fetchall()
        url = self.emptied_catalog()
        values = ", ".join(f"('{name}', '{value}')" for name, value in rows)
        self.sql(f"INSERT INTO {SHARED}.installation (name, value) VALUES {values}")
        return url

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


async def migrated(url: str) -> None:
    database = await PostgresDatabase.open(url)
    await migrate(database)
    await database.close()


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
