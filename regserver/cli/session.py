"""What a command works with: the API, the output, and the person at the terminal."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from regserver.cli import settings
from regserver.cli.api import Api, part
from regserver.cli.exits import FAILED, INTERRUPTED, NOT_FOUND, OK, USAGE, CommandError
from regserver.cli.output import Output
from regserver.cli.words import Reference, plain

_ID = re.compile(r"reg_[a-z2-7]{26}")


class Session:
    def __init__(self, options: argparse.Namespace, environment: Mapping[str, str]) -> None:
        self.options = options
        self.environment = environment
        self.out = Output(as_json=getattr(options, "json", False), in_full=getattr(options, "no_trunc", False))

    @cached_property
    def api(self) -> Api:
        login = settings.resolve(self.options.server, self.options.token, self.environment)
        return Api(login.server, login.token, login.source)

    def registry(self, name: str) -> dict[str, Any]:
        """By name or id, as the list has it."""
        if _ID.fullmatch(name):
            return dict(self.api.get(f"/registries/{name}"))
        found = self.api.pages("/registries", {"name": name})
        if not found:
            raise CommandError(
                f"there is no registry {plain(name)}", NOT_FOUND, hint="`regserver registries list` shows them all"
            )
        return dict(found[0])

    def registry_path(self, name: str) -> str:
        return f"/registries/{self.registry(name)['id']}"

    def image_path(self, reference: Reference) -> str:
        return f"{self.registry_path(reference.registry)}/images/{part(reference.image)}"

    def tag_path(self, reference: Reference) -> str:
        return f"{self.image_path(reference)}/tags/{part(reference.tag or '')}"

    def confirm(self, question: str) -> None:
        """Before what destroys. Raises CommandError unless the person, or ``--yes``, says so."""
        if self.options.yes:
            return
        question = plain(question)
        if not is_interactive():
            raise CommandError(f"{question} Nobody can be asked here", USAGE, hint="add --yes to do it")
        sys.stderr.write(f"{question} [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            raise CommandError("nothing was done", FAILED)


def is_interactive() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def run(options: argparse.Namespace) -> int:
    """A client's command, to its exit code."""
    try:
        options.run(Session(options, os.environ), options)
        sys.stdout.flush()
    except CommandError as error:
        hint = f"\n  {error.hint}" if error.hint else ""
        sys.stderr.write(f"regserver: {plain(error.message)}{hint}\n")
        return error.code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # `… | head` has seen enough; what is left in the buffer goes nowhere, without a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return OK
