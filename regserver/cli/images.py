"""``regserver images``."""

from __future__ import annotations

import argparse

from regserver.cli.exits import FAILED, CommandError
from regserver.cli.output import Column
from regserver.cli.parsing import LISTED, SEARCH, YES, Command, argument, order, sorting
from regserver.cli.session import Session
from regserver.cli.words import amount, image, plain, size, when

_LIST = (
    Column("NAME", "name"),
    Column("TAGS", "tag_count"),
    Column("SIZE", "size_bytes", size),
    Column("PUSHED", "last_pushed", when),
)
_ONE = (
    Column("Name", "name"),
    Column("Tags", "tag_count"),
    Column("Size", "size_bytes", size),
    Column("Deleting frees", "reclaimable_bytes", size),
    Column("Pushed", "last_pushed", when),
    Column("Pulled", "last_pulled", when),
)


def list_images(session: Session, options: argparse.Namespace) -> None:
    query = {"q": options.search, "sort": order(options, "name")}
    rows = session.api.pages(f"{session.registry_path(options.registry)}/images", query, options.limit)
    session.out.table(rows, _LIST, empty=f"{plain(options.registry)} holds no images")


def show_image(session: Session, options: argparse.Namespace) -> None:
    session.out.record(session.api.get(session.image_path(options.image)), _ONE)


def delete_image(session: Session, options: argparse.Namespace) -> None:
    path = session.image_path(options.image)
    found = session.api.get(path)
    name = plain(f"{options.image.registry}/{options.image.image}")
    held = f"{amount(found['tag_count'], 'tag')}, {size(found['size_bytes'])}"
    session.confirm(f"Delete {name} ({held})?")
    session.api.send("DELETE", path)
    session.out.say(f"{name} is deleted; until a collection has run, `regserver images restore {name}` brings it back")


def restore_image(session: Session, options: argparse.Namespace) -> None:
    """Fails where a tag could not be brought back; those that could are back."""
    answer = session.api.send("POST", f"{session.image_path(options.image)}/restore")
    if session.out.as_json:
        session.out.data(answer)
    session.out.say(f"restored: {plain(answer['restored'])}")
    if answer["failed"]:
        raise CommandError(f"not restored: {plain(answer['failed'])}", FAILED, hint="push these again")


_REGISTRY = argument("registry", metavar="REGISTRY", help="its name or id")
_IMAGE = argument("image", metavar="REGISTRY/IMAGE", type=image, help="as in docker pull, without the host")

COMMANDS = (
    Command(
        "list",
        "list a registry's images",
        "regserver images list my-images --sort size_bytes --reverse --limit 10",
        list_images,
        (
            _REGISTRY,
            SEARCH,
            *sorting("name", "last_pushed", "size_bytes", "tag_count"),
            *LISTED,
        ),
    ),
    Command(
        "show",
        "show one image, and what deleting it frees",
        "regserver images show my-images/api",
        show_image,
        (_IMAGE,),
    ),
    Command(
        "delete",
        "delete all tags of an image",
        "regserver images delete my-images/api --yes",
        delete_image,
        (_IMAGE, YES),
    ),
    Command(
        "restore", "bring a deleted image back", "regserver images restore my-images/api", restore_image, (_IMAGE,)
    ),
)
