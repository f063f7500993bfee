"""Files that hold secrets."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from regserver.cli.exits import CommandError


class NoHome(CommandError):
    """There is neither HOME nor an account of this user: a container may run under any number."""

    def __init__(self) -> None:
        super().__init__("this user has no home folder", hint="set HOME, or give --server and --token each time")


def home() -> Path:
    """Raises NoHome."""
    try:
        return Path.home()
    except RuntimeError:
        raise NoHome from None


def write_private(file: Path, text: str) -> None:
    """Replaced as a whole, 0600 from its first byte: who reads it meanwhile sees the old one or the new one.

    A symbolic link stays one; the file it leads to is replaced. Raises CommandError.
    """
    target = Path(os.path.realpath(file))
    staged = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
                opened.write(text)
                opened.flush()
                os.fsync(opened.fileno())  # bytes before name
            staged.replace(target)
        except BaseException:
            staged.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CommandError(f"cannot write {file}: {error.strerror}") from None
