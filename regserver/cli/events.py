"""``regserver events``: what happens, line by line, as it happens."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from regserver.cli.api import Api, Unreachable
from regserver.cli.parsing import Command, argument
from regserver.cli.session import Session
from regserver.cli.words import count, plain, short_digest, size

SILENCE_SECONDS = 60.0  # the server gives a sign of life four times in that
AGAIN_SECONDS = 2.0  # before it is asked again


class Sent(NamedTuple):
    """A block of the stream. ``data`` is None where only the place was told."""

    event: str
    identity: str | None
    data: Mapping[str, Any] | None


def follow(session: Session, options: argparse.Namespace) -> None:
    """Until so many have come, or for ever."""
    left = options.limit
    for sent in _events(session, {"registry": options.registry, "type": options.type}, options.after):
        if sent.data is None:
            continue
        if sent.event == "lost":
            session.out.note("some events are kept no more: what the list shows has a gap here")
            continue
        _show(session, sent.data)
        left = None if left is None else left - 1
        if left == 0:
            return


def _events(session: Session, query: Mapping[str, str | None], place: str | None) -> Iterator[Sent]:
    """From stream to stream, without a gap. Raises CommandError if already the first one does not come."""
    met = False
    while True:
        headers = {"Accept": "text/event-stream", **({} if place is None else {"Last-Event-ID": place})}
        try:
            for sent in _blocks(session.api, query, headers):
                met, place = True, sent.identity or place
                if sent.event != "closing":
                    yield sent
        except Unreachable as away:
            if not met:
                raise
            session.out.note(f"{away.message}; asking again")
        time.sleep(AGAIN_SECONDS)


def _blocks(api: Api, query: Mapping[str, str | None], headers: Mapping[str, str]) -> Iterator[Sent]:
    fields: dict[str, str] = {}
    for line in api.lines("/events", query, headers, SILENCE_SECONDS):
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
            continue
        data = json.loads(fields["data"]) if "data" in fields else None
        yield Sent(fields.get("event", ""), fields.get("id"), data)
        fields = {}


def _show(session: Session, event: Mapping[str, Any]) -> None:
    if session.out.as_json:
        line = json.dumps(event)
    else:
        line = f"{event['at']}  {event['type']:<9}  {_subject(event)}  {_told(event)}".rstrip()
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _subject(event: Mapping[str, Any]) -> str:
    """``my-images/api:v1``, as in the other commands."""
    name = plain(event["registry"]) + (f"/{plain(event['image'])}" if event["image"] else "")
    is_tag = event["image"] and event["reference"]
    return name + (f":{plain(event['reference'])}" if is_tag else "")


def _told(event: Mapping[str, Any]) -> str:
    match event["type"]:
        case "progress":
            told = f"{size(event['received_bytes'])} {event['state']}"
        case "collected":
            told = f"{event['status']}, freed {size(event['bytes_freed'])}"
        case "quota":
            limit = "the server's default" if event["limit_bytes"] is None else size(event["limit_bytes"])
            told = f"{str(event['reason']).replace('_', ' ')}: {size(event['used_bytes'])} of {limit}"
        case "pulled":
            told = f"{short_digest(event['digest'])} ×{event['count']}"
        case _:
            told = short_digest(event["digest"]) if event["digest"] else ""
    return f"{plain(told)}  by {plain(event['actor'])}" if event["actor"] else plain(told)


COMMANDS = (
    Command(
        "events",
        "follow what happens, from now on or from an earlier event",
        "regserver events --registry my-images --type pushed,deleted",
        follow,
        (
            argument("--registry", metavar="REGISTRY", help="only in this one, by name or id"),
            argument("--type", metavar="TYPES", help="only these, such as pushed,pulled,deleted,restored,collected"),
            argument("--after", metavar="ID", help="from behind this event on; 0 for all that are kept"),
            argument("--limit", metavar="N", type=count, help="end after so many; without it, go on"),
        ),
    ),
)
