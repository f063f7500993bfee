"""``regserver registries``."""

from __future__ import annotations

import argparse
import time
from typing import Any

from regserver.cli.exits import USAGE, CommandError
from regserver.cli.output import Column
from regserver.cli.parsing import LISTED, SEARCH, YES, Command, argument, order, sorting
from regserver.cli.policies import POLICY_COMMANDS
from regserver.cli.session import Session
from regserver.cli.words import amount, plain, size, when

_READY_SECONDS, _POLL_SECONDS = 10.0, 0.1

_LIST = (
    Column("NAME", "name"),
    Column("STATUS", "status"),
    Column("PUBLIC", "public"),
    Column("IMAGES", "image_count"),
    Column("SIZE", "storage_bytes", size),
    Column("CREATED", "created_at", when),
)


def _quota(value: Any) -> str:
    return "no limit" if value["storage_gb"] is None else f"{value['storage_gb']} GiB"


_ONE = (
    Column("Name", "name"),
    Column("Id", "id"),
    Column("Status", "status"),
    Column("Message", "status_message"),
    Column("Public", "public"),
    Column("Endpoint", "endpoint"),
    Column("Images", "image_count"),
    Column("Size", "storage_bytes", size),
    Column("Quota", "quota", _quota),
    Column("Created", "created_at", when),
    Column("Updated", "updated_at", when),
)


def list_registries(session: Session, options: argparse.Namespace) -> None:
    query = {"q": options.search, "sort": order(options, "created_at")}
    rows = session.api.pages("/registries", query, options.limit)
    session.out.table(rows, _LIST, empty="no registries; `regserver registries create NAME` makes one")


def show_registry(session: Session, options: argparse.Namespace) -> None:
    session.out.record(session.api.get(session.registry_path(options.registry)), _ONE)


def create_registry(session: Session, options: argparse.Namespace) -> None:
    """Comes back when the registry can be pushed to."""
    body: dict[str, Any] = {"name": options.name, "public": options.public}
    if options.quota_gb is not None:
        body["quota"] = {"storage_gb": options.quota_gb}
    made = make_registry(session, body)
    if session.out.as_json:
        return session.out.data(made)
    name = plain(made["name"])
    session.out.say(f"{name} is there: {plain(made['endpoint'])}")
    return session.out.note(f"next: regserver login --registry {name}; docker push {plain(made['endpoint'])}/IMAGE:TAG")


def make_registry(session: Session, body: dict[str, Any]) -> dict[str, Any]:
    """As the API answers; comes back when it can be pushed to."""
    made: dict[str, Any] = session.api.send("POST", "/registries", body)
    deadline = time.monotonic() + _READY_SECONDS
    while session.api.get(f"/registries/{made['id']}")["status"] == "creating" and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return made


def update_registry(session: Session, options: argparse.Namespace) -> None:
    body: dict[str, Any] = {}
    if options.public is not None:
        body["public"] = options.public
    if options.quota_gb is not None:
        body["quota"] = {"storage_gb": options.quota_gb}
    if options.default_quota:
        body["quota"] = None
    if not body:
        raise CommandError("nothing to change was named", USAGE, hint="see regserver registries update --help")
    path = session.registry_path(options.registry)
    changed = session.api.send("PATCH", path, body)
    if session.out.as_json:
        return session.out.data(changed)
    return session.out.record(session.api.get(path), _ONE)


def delete_registry(session: Session, options: argparse.Namespace) -> None:
    found = session.registry(options.registry)
    holds = f"{amount(found['image_count'], 'image')}, {size(found['storage_bytes'])}"
    session.confirm(f"Delete the registry {plain(found['name'])} ({holds}) for good?")
    query = {"force": "true" if options.force else None}
    session.api.send("DELETE", f"/registries/{found['id']}", query=query)
    session.out.say(f"{plain(found['name'])} is deleted")


REGISTRY = argument("registry", metavar="REGISTRY", help="its name or id")
_QUOTA = argument("--quota-gb", metavar="N", type=float, help="most it may hold, in GiB; fractions allowed")

COMMANDS = (
    Command(
        "list",
        "list registries",
        "regserver registries list --search team --sort storage_bytes --reverse",
        list_registries,
        (
            SEARCH,
            *sorting("name", "created_at", "storage_bytes", "image_count"),
            *LISTED,
        ),
    ),
    Command("show", "show one registry", "regserver registries show my-images", show_registry, (REGISTRY,)),
    Command(
        "create",
        "make a registry",
        "regserver registries create my-images --quota-gb 50",
        create_registry,
        (
            argument("name", metavar="NAME", help="lower-case letters and digits, joined by . _ or -"),
            argument("--public", action="store_true", help="anybody may pull"),
            _QUOTA,
        ),
    ),
    Command(
        "update",
        "change who may pull, or the quota",
        "regserver registries update my-images --public --quota-gb 100",
        update_registry,
        (
            REGISTRY,
            argument("--public", action="store_true", default=None, help="anybody may pull"),
            argument("--private", action="store_false", dest="public", default=None, help="only its robots may pull"),
            _QUOTA,
            argument("--default-quota", action="store_true", help="no quota of its own: the server's default"),
        ),
    ),
    Command(
        "delete",
        "delete a registry",
        "regserver registries delete my-images --force --yes",
        delete_registry,
        (REGISTRY, argument("--force", action="store_true", help="also one that holds images"), YES),
    ),
    *POLICY_COMMANDS,
)
