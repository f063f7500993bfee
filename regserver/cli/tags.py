"""``regserver tags``."""

from __future__ import annotations

import argparse
from typing import Any

from regserver.cli.output import Column
from regserver.cli.parsing import LISTED, SEARCH, YES, Command, argument, order, sorting
from regserver.cli.session import Session
from regserver.cli.words import image, plain, short_digest, size, tagged, when

_PLATFORM = ("os", "architecture", "variant")


def _platforms(value: Any) -> str:
    """``linux/arm64/v8``, as docker writes them."""
    names = ("/".join(plain(one[key]) for key in _PLATFORM if one.get(key)) for one in value)
    return ", ".join(names) or plain(None)


_LIST = (
    Column("TAG", "name"),
    Column("DIGEST", "digest", short_digest),
    Column("SIZE", "size_bytes", size),
    Column("PUSHED", "pushed_at", when),
)
_ONE = (
    Column("Tag", "name"),
    Column("Digest", "digest"),
    Column("Media type", "media_type"),
    Column("Artifact type", "artifact_type"),
    Column("Platforms", "platforms", _platforms),
    Column("Damaged", "damaged"),
    Column("Size", "size_bytes", size),
    Column("Deleting frees", "reclaimable_bytes", size),
    Column("Pushed", "pushed_at", when),
    Column("Pulled", "last_pulled", when),
)
_REFERRERS = (
    Column("REFERRER", "digest", short_digest),
    Column("ARTIFACT TYPE", "artifact_type"),
    Column("SIZE", "size_bytes", size),
)
_HISTORY = (
    Column("AT", "at", when),
    Column("ACTION", "action"),
    Column("BY", "by"),
    Column("RESTORABLE UNTIL", "restorable_until", when),
    Column("DIGEST", "digest"),
)


def list_tags(session: Session, options: argparse.Namespace) -> None:
    query = {"q": options.search, "sort": order(options, "name")}
    rows = session.api.pages(f"{session.image_path(options.image)}/tags", query, options.limit)
    session.out.table(rows, _LIST, empty=f"{plain(options.image.image)} has no tags")


def show_tag(session: Session, options: argparse.Namespace) -> None:
    found = session.api.get(session.tag_path(options.tag))
    session.out.record(found, _ONE)
    if found.get("referrers") and not session.out.as_json:
        session.out.say("")
        session.out.table(found["referrers"], _REFERRERS, empty="")


def delete_tag(session: Session, options: argparse.Namespace) -> None:
    """Only as long as it names what the person was shown: moved meanwhile, it stays (412)."""
    path, digest = session.tag_path(options.tag), options.digest
    name = plain(f"{options.tag.registry}/{options.tag.image}:{options.tag.tag}")
    if not options.yes:
        digest = digest or session.api.get(path)["digest"]
        session.confirm(f"Delete {name} ({short_digest(digest)})?")
    session.api.send("DELETE", path, headers={"If-Match": f'"{digest}"'} if digest else {})
    session.out.say(f"{name} is deleted; until a collection has run, `regserver tags restore {name}` brings it back")


def list_history(session: Session, options: argparse.Namespace) -> None:
    rows = session.api.pages(f"{session.tag_path(options.tag)}/history", None, options.limit)
    session.out.table(rows, _HISTORY, empty="nothing is known of this tag")


def restore_tag(session: Session, options: argparse.Namespace) -> None:
    body = {"digest": options.digest} if options.digest else None
    restored = session.api.send("POST", f"{session.tag_path(options.tag)}/restore", body)
    if session.out.as_json:
        session.out.data(restored)
    session.out.say(f"{plain(restored['name'])} names {plain(restored['digest'])} again")


_IMAGE = argument("image", metavar="REGISTRY/IMAGE", type=image, help="as in docker pull, without the host")
_TAG = argument("tag", metavar="REGISTRY/IMAGE:TAG", type=tagged, help="as in docker pull, without the host")

COMMANDS = (
    Command(
        "list",
        "list an image's tags",
        "regserver tags list my-images/api --sort pushed_at --reverse --limit 10",
        list_tags,
        (
            _IMAGE,
            SEARCH,
            *sorting("name", "pushed_at"),
            *LISTED,
        ),
    ),
    Command(
        "show",
        "show one tag: platforms, referrers, what deleting it frees",
        "regserver tags show my-images/api:v1",
        show_tag,
        (_TAG,),
    ),
    Command(
        "delete",
        "delete one tag",
        "regserver tags delete my-images/api:v1 --yes",
        delete_tag,
        (_TAG, argument("--digest", metavar="DIGEST", help="only if it names this one"), YES),
    ),
    Command(
        "history",
        "show what a tag named before, and who moved it",
        "regserver tags history my-images/api:latest",
        list_history,
        (_TAG, *LISTED),
    ),
    Command(
        "restore",
        "let a tag name what it named before",
        "regserver tags restore my-images/api:latest",
        restore_tag,
        (_TAG, argument("--digest", metavar="DIGEST", help="this one of its history; else the one before")),
    ),
)
