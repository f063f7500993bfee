"""Processes that serve the same address, and what each of them has counted: whoever is scraped asks the others.

Each has a socket in a folder of the root, named by its process id, and answers whoever connects with its numbers as one
JSON document. The folder is for its owner alone. Nothing hangs on an answer: who has gone, or is slow, is left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from aiohttp import web

from regserver.config import Settings
from regserver.counting import Dumped, Numbers

FOLDER: Final = "siblings"
ANSWER_SECONDS: Final = 1.0
MOST_BYTES: Final = 16 * 2**20


def wanted(settings: Settings) -> bool:
    """Whether others serve the same address."""
    return int(getattr(settings, "workers", 1)) > 1


class Siblings:
    """``tell`` says what this process has counted. Until ``open`` it has no siblings."""

    def __init__(self, root: Path, tell: Callable[[], Dumped]) -> None:
        self._folder = root / FOLDER
        self._tell = tell
        self._own = self._folder / str(os.getpid())
        self._server: asyncio.Server | None = None

    async def open(self, _: object = None) -> None:
        """Raises OSError."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._own.unlink(missing_ok=True)  # of a process that had this id before
        with _short(self._own) as path:
            self._server = await asyncio.start_unix_server(self._answer, path)

    async def close(self, _: object = None) -> None:
        if self._server is not None:
            self._server.close()
            self._own.unlink(missing_ok=True)
            self._server = None

    async def all(self) -> Numbers:
        """What all of them have counted together."""
        numbers = Numbers()
        numbers.add(self._tell())
        if self._server is not None:
            others = [path for path in self._folder.iterdir() if path != self._own]
            for dumped in await asyncio.gather(*map(self._ask, others)):
                with contextlib.suppress(KeyError, TypeError, ValueError):  # of another version
                    Numbers().add(dumped)
                    numbers.add(dumped)
        return numbers

    async def _answer(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(json.dumps(self._tell()).encode())
            await writer.drain()
        writer.close()

    async def _ask(self, path: Path) -> Dumped:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                with _short(path) as near:
                    reader, writer = await asyncio.open_unix_connection(near, limit=MOST_BYTES)
                with contextlib.closing(writer):
                    found = json.loads(await reader.read())
        except ConnectionRefusedError:  # its process was killed
            _forget(path)
            return {}
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def _forget(path: Path) -> None:
    path.unlink(missing_ok=True)


SIBLINGS: Final = web.AppKey("siblings", Siblings)


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """The same file under a name that fits: a socket's may have 107 bytes (unix(7))."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
