"""``regserver audit``: who did what."""

from __future__ import annotations

import argparse

from regserver.cli.output import Column
from regserver.cli.parsing import LISTED, SEARCH, Command, argument
from regserver.cli.session import Session
from regserver.cli.words import ago, when

_LIST = (
    Column("AT", "at", when),
    Column("ACTOR", "actor"),
    Column("ACTION", "action"),
    Column("REGISTRY", "registry"),
    Column("IMAGE", "image"),
    Column("REFERENCE", "reference"),
    Column("ADDRESS", "address"),
    Column("RESULT", "result"),
)


def list_events(session: Session, options: argparse.Namespace) -> None:
    query = {
        "registry": options.registry,
        "actor": options.actor,
        "action": options.action,
        "since": options.since,
        "until": options.until,
        "q": options.search,
    }
    session.out.table(session.api.pages("/audit", query, options.limit), _LIST, empty="nothing has happened")


COMMANDS = (
    Command(
        "list",
        "list what was done, the latest first",
        "regserver audit list --registry my-images --action tag.push --since 7d",
        list_events,
        (
            argument("--registry", metavar="REGISTRY", help="only in this one, by name or id"),
            argument("--actor", metavar="NAME", help="only by this account, such as 'robot$my-images'"),
            argument("--action", metavar="ACTION", help="only this, such as tag.push or manifest.delete"),
            argument("--since", metavar="TIME", type=ago, help="7d ago, or 2026-01-31, or 2026-01-31T12:00:00Z"),
            argument("--until", metavar="TIME", type=ago, help="the same forms"),
            SEARCH,
            *LISTED,
        ),
    ),
)
