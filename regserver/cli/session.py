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
from regserver.cli.exits import FAILED, INTERRUPTED, NOT_FOUND, OK, USAGE, CommandError, NoSuchResource
from regserver.cli.output import Output
from regserver.cli.words import Reference, plain

_ID = re.compile(r"reg_[0-9a-v]{26}")


class Session:
    def __init__(self, options: argparse.Namespace, environment: Mapping[str, str]) -> None:
        self.options = options
        self.environment = environment
        self.subject = ""  # what the command is about, for "there is no …"
        self.out = Output(as_json=getattr(options, "json", False), in_full=getattr(options, "no_trunc", False))

    @cached_property
    def api(self) -> Api:
        login = settings.resolve(self.options.server, self.options.token, self.environment)
        return Api(login.server, login.token, login.source)

    def registry(self, name: str) -> dict[str, Any]:
        """By name or id, as the list has it."""
        if _ID.fullmatch(name):
            self.subject = f"registry {name}"
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
        registry = self.registry_path(reference.registry)
        self.subject = f"image {reference.registry}/{reference.image}"
        return f"{registry}/images/{part(reference.image)}"

    def tag_path(self, reference: Reference) -> str:
        image = self.image_path(reference)
        self.subject = f"tag {reference.registry}/{reference.image}:{reference.tag}"
        return f"{image}/tags/{part(reference.tag or '')}"

    def confirm(self, question: str) -> None:
        """Before what destroys. Raises CommandError unless the person, or ``--yes``, says so."""
        if self.options.yes:
            return
        question = plain(question)
        if not is_interactive():
            raise CommandError(f"{question} There is no terminal to answer on", USAGE, hint="add --yes to do it")
        sys.stderr.write(f"{question} [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            raise CommandError("nothing was done", FAILED)


def is_interactive() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def run(options: argparse.Namespace) -> int:
    """A client's command, to its exit code."""
    session = Session(options, os.environ)
    try:
        options.run(session, options)
        sys.stdout.flush()
    except NoSuchResource as error:
        return _fail(absent(session.subject, error))
    except CommandError as error:
        return _fail(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # `… | head` has seen enough; what is left in the buffer goes nowhere, without a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return OK


def absent(subject: str, error: CommandError) -> CommandError:
    """404 in the words of the command. Without a subject it is the path itself that the server does not know."""
    if subject:
        return CommandError(f"there is no {subject}", error.code, hint="the command `list` shows what is there")
    return CommandError("the server does not know this command", error.code, hint="is it older than this regserver?")


def _fail(error: CommandError) -> int:
    hint = f"\n  {error.hint}" if error.hint else ""
    sys.stderr.write(f"regserver: {plain(error.message)}{hint}\n")
    return error.code
