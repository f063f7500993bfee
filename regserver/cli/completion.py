"""``regserver completion``: what a shell needs to complete the command line."""

from __future__ import annotations

import argparse
import sys

from regserver.cli.parsing import Command, argument
from regserver.cli.session import Session


def complete(session: Session, options: argparse.Namespace) -> None:
    import shtab

    sys.stdout.write(shtab.complete(options.whole_parser(), shell=options.shell) + "\n")


COMMANDS = (
    Command(
        "completion",
        "completion for bash and zsh; put its output where the shell looks",
        "source <(regserver completion bash)",
        complete,
        (argument("shell", choices=("bash", "zsh"), help="which shell"),),
        asks_server=False,
    ),
)
