"""The client's commands by their first word. A module is imported only when its word is used: the server starts with
none of them."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from regserver.cli.parsing import Arguments, Command, Commands, add_command, add_commands, text


@dataclass(frozen=True, slots=True)
class Group:
    """``module`` has ``COMMANDS``, rows below the word; a single row of the word's own name is the word itself."""

    name: str
    summary: str
    example: str
    module: str


GROUPS = (
    Group("login", "log in: yourself, and docker", "regserver login https://registry.example.com", "login"),
    Group("logout", "forget what login has saved", "regserver logout", "logout"),
    Group("registries", "list, make, change and delete registries", "regserver registries list", "registries"),
    Group("credentials", "a registry's password for docker", "regserver credentials show my-images", "credentials"),
    Group("images", "list, delete and restore images", "regserver images list my-images", "images"),
    Group("tags", "list, delete and restore tags, and their history", "regserver tags list my-images/api", "tags"),
    Group("robots", "robot accounts with fewer rights", "regserver robots list my-images", "robots"),
    Group("tokens", "tokens for the API", "regserver tokens list", "tokens"),
    Group("gc", "collect garbage, and say why something stays", "regserver gc run my-images", "gc"),
    Group("audit", "who did what", "regserver audit list --since 1d", "audit"),
    Group("events", "follow what happens", "regserver events --registry my-images", "events"),
    Group("export", "write an image into an OCI layout", "regserver export my-images/api:v1 api.tar", "exporting"),
    Group(
        "import", "copy another registry, or push an OCI layout", "regserver import api.tar my-images/api", "importing"
    ),
    Group("completion", "completion for bash and zsh", "regserver completion bash", "completion"),
)
NAMES = frozenset(group.name for group in GROUPS)


def add_groups(commands: Commands, wanted: frozenset[str]) -> None:
    """All words of the table; what stands below a word only for those in ``wanted``."""
    for group in GROUPS:
        loaded = rows(group) if group.name in wanted else ()
        examples = "\n".join(f"  {line}" for row in loaded for line in (row.example, *row.more)) or f"  {group.example}"
        description = f"{group.summary[0].upper()}{group.summary[1:]}."
        parser = commands.add_parser(
            group.name, help=group.summary, description=description, **text(f"examples:\n{examples}\n")
        )
        if [row.name for row in loaded] == [group.name]:
            add_command(parser, loaded[0])
        elif loaded:
            below = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Arguments)
            add_commands(below, loaded)


def rows(group: Group) -> tuple[Command, ...]:
    found: tuple[Command, ...] = importlib.import_module(f"regserver.cli.{group.module}").COMMANDS
    return found
