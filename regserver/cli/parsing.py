"""Commands as rows: what a module of commands declares, and how argparse learns of it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from regserver.cli.exits import USAGE
from regserver.cli.words import count

if TYPE_CHECKING:
    from regserver.cli.session import Session


class Arguments(argparse.ArgumentParser):
    """One line instead of the whole usage: a service's log is where mistakes are read."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: {message} (see {self.prog} --help)\n")


if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[Arguments]  # subscripted in the stubs only
else:
    Commands = argparse._SubParsersAction
Run = Callable[["Session", argparse.Namespace], None]


@dataclass(frozen=True, slots=True)
class Argument:
    """What ``add_argument`` takes."""

    flags: tuple[str, ...]
    options: Mapping[str, Any]


def argument(*flags: str, **options: Any) -> Argument:
    return Argument(flags, options)


@dataclass(frozen=True, slots=True)
class Command:
    """One row. ``name`` may be two words, then the first is a group of its own; ``example`` is a whole command line.

    ``run`` raises CommandError; otherwise the command has succeeded.
    """

    name: str
    summary: str
    example: str
    run: Run
    arguments: Sequence[Argument] = ()
    asks_server: bool = True  # takes --server, --token and --json
    more: Sequence[str] = ()  # further examples


YES = argument("--yes", "-y", action="store_true", help="do not ask; needed where nobody can be asked")
SEARCH = argument("--search", metavar="TEXT", help="only what holds this text")
LISTED = (
    argument("--limit", metavar="N", type=count, help="at most so many; all of them without it"),
    argument("--no-trunc", action="store_true", help="digests in full length"),
)
_COMMON = (
    argument(
        "--server", metavar="URL", help="the server; else REGSERVER_SERVER, that of the login, or http://127.0.0.1:5000"
    ),
    argument("--token", metavar="TOKEN", help="an API token; else REGSERVER_TOKEN, or that of the login"),
    argument("--json", action="store_true", help="the API's data as JSON on stdout, for scripts"),
)


def sorting(*fields: str) -> tuple[Argument, Argument]:
    """Options for the order of a list; ``order`` makes the query of them."""
    return (
        argument("--sort", choices=fields, help="the order"),
        argument("--reverse", action="store_true", help="the largest or latest first"),
    )


def order(options: argparse.Namespace, default: str) -> str | None:
    """``sort`` of the API; None leaves it to the server."""
    if options.reverse:
        return f"-{options.sort or default}"
    return str(options.sort) if options.sort else None


def add_commands(commands: Commands, rows: Sequence[Command]) -> None:
    """Each row as a command below ``commands``, with the arguments that all of them have."""
    for row in rows:
        if " " not in row.name:
            _add(commands, row, row.name)
    for group in dict.fromkeys(row.name.split()[0] for row in rows if " " in row.name):
        inner = [row for row in rows if row.name.startswith(f"{group} ")]
        examples = "\n".join(f"  {row.example}" for row in inner)
        parser = commands.add_parser(group, help=f"its {group}", **text(f"examples:\n{examples}\n"))
        below = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Arguments)
        for row in inner:
            _add(below, row, row.name.split()[1])


def add_command(parser: argparse.ArgumentParser, row: Command) -> None:
    """The row's arguments, and those of every command, on a parser of its own."""
    parser.set_defaults(run=row.run)
    for one in (*row.arguments, *(_COMMON if row.asks_server else ())):
        parser.add_argument(*one.flags, **one.options)


def _add(commands: Commands, row: Command, name: str) -> None:
    description = f"{row.summary[0].upper()}{row.summary[1:]}."
    shown = row.summary.replace("%", "%%")
    shown_examples = "".join(f"  {line}\n" for line in (row.example, *row.more))
    parser = commands.add_parser(name, help=shown, description=description, **text(f"example:\n{shown_examples}"))
    add_command(parser, row)


def text(examples: str) -> dict[str, Any]:
    """How every parser treats its examples and its options."""
    return {"epilog": examples, "formatter_class": _Help, "allow_abbrev": False}


class _Help(argparse.RawDescriptionHelpFormatter):
    """Room for the longest word beside what it means."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28)
