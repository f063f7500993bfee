"""``regserver robots``: accounts of a registry with fewer rights than its own."""

from __future__ import annotations

import argparse
from typing import Any

from regserver.cli.api import part
from regserver.cli.credentials import GRACE
from regserver.cli.exits import NOT_FOUND, USAGE, CommandError
from regserver.cli.output import Column
from regserver.cli.parsing import LISTED, YES, Command, argument
from regserver.cli.session import Session
from regserver.cli.words import ahead, plain, when, words


def _images(value: Any) -> str:
    return "all" if value is None else plain(value)


def _expiry(value: Any) -> str:
    return "never" if value is None else when(value)


_LIST = (
    Column("USERNAME", "username"),
    Column("ACTIONS", "actions"),
    Column("IMAGES", "images", _images),
    Column("EXPIRES", "expires_at", _expiry),
    Column("LAST USED", "last_used_at", when),
)
_ONE = (
    Column("Username", "username"),
    Column("Password", "password"),
    Column("Id", "id"),
    Column("Actions", "actions"),
    Column("Images", "images", _images),
    Column("Expires", "expires_at", _expiry),
    Column("Last used", "last_used_at", when),
    Column("Created", "created_at", when),
    Column("Old password until", "previous_valid_until", when),
)


def list_robots(session: Session, options: argparse.Namespace) -> None:
    rows = session.api.pages(f"{session.registry_path(options.registry)}/robots", None, options.limit)
    session.out.table(rows, _LIST, empty="no robots")


def show_robot(session: Session, options: argparse.Namespace) -> None:
    path, _ = _robot(session, options)
    session.out.record(session.api.get(path), _ONE)


def create_robot(session: Session, options: argparse.Namespace) -> None:
    body = {"name": options.name, **_fields(options)}
    made = session.api.send("POST", f"{session.registry_path(options.registry)}/robots", body)
    session.out.record(made, _ONE)


def update_robot(session: Session, options: argparse.Namespace) -> None:
    body = _fields(options)
    if not body:
        raise CommandError("nothing to change was named", USAGE, hint="see regserver robots update --help")
    path, _ = _robot(session, options)
    session.out.record(session.api.send("PATCH", path, body), _ONE)


def rotate_robot(session: Session, options: argparse.Namespace) -> None:
    path, username = _robot(session, options)
    if not options.grace:
        session.confirm(f"Rotate the password of {username}? The old one ends at once (--grace 1h: later).")
    body = {"grace_seconds": options.grace} if options.grace else None
    session.out.record(session.api.send("POST", f"{path}/rotate", body), _ONE)


def delete_robot(session: Session, options: argparse.Namespace) -> None:
    path, username = _robot(session, options)
    session.confirm(f"Delete {username}? Who uses it is locked out at once.")
    session.api.send("DELETE", path)
    session.out.say(f"{username} is deleted")


def _robot(session: Session, options: argparse.Namespace) -> tuple[str, str]:
    """Path and username of the robot that is meant by id, name or username."""
    base = f"{session.registry_path(options.registry)}/robots"
    for row in session.api.pages(base):
        if options.robot in (row["id"], row["name"], row["username"]):
            return f"{base}/{part(row['id'])}", plain(row["username"])
    raise CommandError(
        f"{plain(options.registry)} has no robot {plain(options.robot)}",
        NOT_FOUND,
        hint=f"`regserver robots list {plain(options.registry)}` shows them all",
    )


def _fields(options: argparse.Namespace) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if options.actions is not None:
        fields["actions"] = options.actions
    if options.images is not None:
        fields["images"] = options.images
    if options.all_images:
        fields["images"] = None
    if options.expires is not None:
        fields["expires_at"] = None if options.expires == "never" else options.expires
    return fields


def expiry(text: str) -> str:
    return text if text == "never" else ahead(text)


_REGISTRY = argument("registry", metavar="REGISTRY", help="its name or id")
_ROBOT = argument("robot", metavar="ROBOT", help="its name, username or id")
_RIGHTS = (
    argument("--actions", metavar="LIST", type=words, help="of pull, push, delete, joined by commas"),
    argument("--images", metavar="GLOBS", type=words, help="only these images: 'team/*,web'"),
    argument("--all-images", action="store_true", help="every image of the registry"),
    argument("--expires", metavar="TIME", type=expiry, help="30d, 2027-01-31, or never"),
)

COMMANDS = (
    Command("list", "list a registry's robots", "regserver robots list my-images", list_robots, (_REGISTRY, *LISTED)),
    Command("show", "show one robot", "regserver robots show my-images ci", show_robot, (_REGISTRY, _ROBOT)),
    Command(
        "create",
        "make a robot; its password is shown",
        "regserver robots create my-images ci --actions pull,push --images 'team/*' --expires 90d",
        create_robot,
        (_REGISTRY, argument("name", metavar="NAME", help="its username is robot$REGISTRY+NAME"), *_RIGHTS),
    ),
    Command(
        "update",
        "change a robot's rights or expiry",
        "regserver robots update my-images ci --actions pull --expires never",
        update_robot,
        (_REGISTRY, _ROBOT, *_RIGHTS),
    ),
    Command(
        "rotate",
        "make a new password",
        "regserver robots rotate my-images ci --grace 1h",
        rotate_robot,
        (_REGISTRY, _ROBOT, GRACE, YES),
    ),
    Command(
        "delete", "delete a robot", "regserver robots delete my-images ci --yes", delete_robot, (_REGISTRY, _ROBOT, YES)
    ),
)
