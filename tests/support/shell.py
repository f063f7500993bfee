"""The client's commands as a person or a script runs them: a process of its own, with or without a terminal."""

import asyncio
import dataclasses
import json
import os
import pty
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from support.environment import clean_environment
from support.registry import ADMIN_TOKEN, PATIENCE_SECONDS

_UNSET = ("DOCKER_CONFIG", "XDG_CONFIG_HOME", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY")


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a command ended. On a terminal ``out`` is everything that was to be seen."""

    code: int
    out: str
    err: str = ""

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclasses.dataclass(frozen=True)
class Shell:
    """A home folder of its own, and a server and a token by environment where they are given."""

    home: Path
    server: str | None = None
    token: str | None = ADMIN_TOKEN
    more: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def config(self) -> Path:
        return self.home / ".config" / "regserver" / "config.toml"

    @property
    def docker(self) -> Path:
        return self.home / ".docker" / "config.json"

    def seen_with(self, **changes: Any) -> "Shell":
        return dataclasses.replace(self, **changes)

    @property
    def environment(self) -> dict[str, str]:
        given = {"HOME": str(self.home), "TZ": "UTC", "TERM": "xterm", "COLUMNS": "200", **self.more}
        named = {"REGSERVER_SERVER": self.server, "REGSERVER_TOKEN": self.token}
        kept = {name: value for name, value in clean_environment().items() if name not in _UNSET}
        return {**kept, **given, **{name: value for name, value in named.items() if value is not None}}

    async def run(self, *arguments: str, stdin: str = "") -> Ended:
        """Without a terminal, as a script runs it."""
        process = await asyncio.create_subprocess_exec(
            *_command(arguments),
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(stdin.encode()), PATIENCE_SECONDS)
        return Ended(process.returncode or 0, out.decode(), err.decode())

    async def succeed(self, *arguments: str, stdin: str = "") -> Ended:
        ended = await self.run(*arguments, stdin=stdin)
        assert ended.code == 0, ended
        return ended

    async def run_unread(self, *arguments: str) -> Ended:
        """Into a pipe whose reader has gone, as ``head`` goes when it has seen enough."""
        reader, writer = os.pipe()
        os.close(reader)
        try:
            process = await asyncio.create_subprocess_exec(
                *_command(arguments), env=self.environment, stdout=writer, stderr=subprocess.PIPE
            )
            _, err = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
        finally:
            os.close(writer)
        return Ended(process.returncode or 0, "", err.decode())

    async def type(self, *arguments: str, answers: Sequence[tuple[str, str]] = ()) -> Ended:
        """On a terminal; each of ``answers`` is what is waited for and what is typed then."""
        return await asyncio.to_thread(self._type, arguments, list(answers))

    def _type(self, arguments: Sequence[str], answers: list[tuple[str, str]]) -> Ended:
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            _command(arguments),
            env=self.environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        seen = b""
        try:
            while content := _read(ours):
                seen += content
                if answers and answers[0][0].encode() in seen:
                    os.write(ours, answers.pop(0)[1].encode() + b"\n")
            return Ended(process.wait(PATIENCE_SECONDS), seen.decode().replace("\r\n", "\n"))
        finally:
            process.kill()
            process.wait()
            os.close(ours)


def _command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "regserver", *arguments]


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other end is closed
        return b""


def shell_for(client: Any, home: Path) -> Shell:
    """At the server of an aiohttp test client."""
    home.mkdir(exist_ok=True)
    return Shell(home, str(client.make_url("")).rstrip("/"))
