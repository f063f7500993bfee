"""``regserver tokens``: tokens for the API."""

from __future__ import annotations

import argparse
from typing import Any

from regserver.cli.api import part
from regserver.cli.exits import NOT_FOUND, CommandError
from regserver.cli.output import Column
from regserver.cli.parsing import LISTED, YES, Command, argument
from regserver.cli.session import Session
from regserver.cli.words import ahead, plain, when


def expiry(text: str) -> str:
    return text if text == "never" else ahead(text)


def _expiry(value: Any) -> str:
    return "never" if value is None else when(value)


_LIST = (
    Column("NAME", "name"),
    Column("ID", "id"),
    Column("SCOPES", "scopes"),
    Column("EXPIRES", "expires_at", _expiry),
    Column("LAST USED", "last_used_at", when),
)
_ONE = (
    Column("Token", "token"),
    Column("Name", "name"),
    Column("Id", "id"),
    Column("Scopes", "scopes"),
    Column("Expires", "expires_at", _expiry),
    Column("Last used", "last_used_at", when),
    Column("Created", "created_at", when),
)


def list_tokens(session: Session, options: argparse.Namespace) -> None:
    session.out.table(
        session.api.pages("/tokens", None, options.limit), _LIST, empty="no tokens but the administrator's"
    )


def show_token(session: Session, options: argparse.Namespace) -> None:
    session.out.record(session.api.get(f"/tokens/{part(_token(session, options.name)['id'])}"), _ONE)


def create_token(session: Session, options: argparse.Namespace) -> None:
    body: dict[str, Any] = {"name": options.name, "scopes": [_scope(session, scope) for scope in options.scope]}
    if options.expires not in (None, "never"):
        body["expires_at"] = options.expires
    session.out.record(session.api.send("POST", "/tokens", body), _ONE)
    session.out.note("the token is shown this once")


def delete_token(session: Session, options: argparse.Namespace) -> None:
    found = _token(session, options.name)
    session.confirm(f"Delete the token {plain(found['name'])}? Who uses it is locked out at once.")
    session.api.send("DELETE", f"/tokens/{part(found['id'])}")
    session.out.say(f"{plain(found['name'])} is deleted")


def _token(session: Session, name: str) -> dict[str, Any]:
    """By id, or by a name that only one has."""
    rows = session.api.pages("/tokens")
    found = [row for row in rows if row["id"] == name] or [row for row in rows if row["name"] == name]
    if len(found) > 1:
        raise CommandError(f"{len(found)} tokens are called {plain(name)}", hint="name it by its id")
    if not found:
        raise CommandError(f"there is no token {plain(name)}", NOT_FOUND, hint="`regserver tokens list` shows them all")
    return dict(found[0])


def _scope(session: Session, scope: str) -> str:
    """``registry:NAME`` becomes ``registry:ID``, which is how the API has it."""
    kind, colon, registry = scope.partition(":")
    return f"{kind}:{session.registry(registry)['id']}" if kind == "registry" and colon else scope


_TOKEN = argument("name", metavar="TOKEN", help="its name or id")

COMMANDS = (
    Command("list", "list the tokens", "regserver tokens list", list_tokens, LISTED),
    Command("show", "show one token", "regserver tokens show ci", show_token, (_TOKEN,)),
    Command(
        "create",
        "make a token; it is shown once",
        "regserver tokens create ci --scope read --scope registry:my-images --expires 90d",
        create_token,
        (
            argument("name", metavar="NAME", help="what it is for"),
            argument(
                "--scope",
                metavar="SCOPE",
                action="append",
                required=True,
                help="admin, read, or registry:NAME; may be given again",
            ),
            argument("--expires", metavar="TIME", type=expiry, help="30d, 2027-01-31, or never"),
        ),
    ),
    Command("delete", "delete a token", "regserver tokens delete ci --yes", delete_token, (_TOKEN, YES)),
)
