"""How a command ends. The numbers are a promise to scripts; docs/cli.md has them too."""

from __future__ import annotations

OK = 0
FAILED = 1  # it could not be done, or nobody wanted it done
USAGE = 2  # it cannot be done as it is written
NOT_FOUND = 3
DENIED = 4  # no token, a wrong one, or one that may not do this
CONFLICT = 5  # it exists already, is not empty, is not ready, or has changed meanwhile
UNREACHABLE = 6  # no server there, or one that cannot answer now
DAMAGED = 7  # scrub: content is not what it was
INTERRUPTED = 130


class CommandError(Exception):
    """What ends a command: one line for stderr, what to do next, and the exit code. Never holds a secret."""

    def __init__(self, message: str, code: int = FAILED, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.hint = hint


class NoSuchResource(CommandError):
    """The API's 404, which does not say what was not found."""
