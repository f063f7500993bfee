"""``regserver credentials``: the password of a registry's own robot."""

from __future__ import annotations

import argparse
import json
import sys

from regserver.cli.output import Column
from regserver.cli.parsing import YES, Command, argument
from regserver.cli.session import Session
from regserver.cli.words import plain, seconds, when

CREDENTIALS = (
    Column("Username", "username"),
    Column("Password", "password"),
    Column("Endpoint", "endpoint"),
    Column("Old password until", "previous_valid_until", when),
)


def show_credentials(session: Session, options: argparse.Namespace) -> None:
    found = session.api.get(f"{session.registry_path(options.registry)}/credentials")
    if options.password_only:
        sys.stdout.write(found["password"] + "\n")
    elif options.docker_config:
        sys.stdout.write(json.dumps(found["docker_config"], indent=2) + "\n")
    else:
        session.out.record(found, CREDENTIALS)


def rotate_credentials(session: Session, options: argparse.Namespace) -> None:
    found = session.registry(options.registry)
    if not options.grace:
        session.confirm(f"Rotate the password of {plain(found['name'])}? The old one ends at once (--grace 1h: later).")
    body = {"grace_seconds": options.grace} if options.grace else None
    session.out.record(session.api.send("POST", f"/registries/{found['id']}/rotate-credentials", body), CREDENTIALS)


_REGISTRY = argument("registry", metavar="REGISTRY", help="its name or id")
GRACE = argument(
    "--grace", metavar="TIME", type=seconds, default=0, help="the old password stays good so long: 15m, 1h; at most 1d"
)

COMMANDS = (
    Command(
        "show",
        "show name and password",
        "regserver credentials show my-images --docker-config > config.json",
        show_credentials,
        (
            _REGISTRY,
            argument("--password-only", action="store_true", help="nothing but the password, for --password-stdin"),
            argument("--docker-config", action="store_true", help="a config.json for docker"),
        ),
    ),
    Command(
        "rotate",
        "make a new password",
        "regserver credentials rotate my-images --grace 1h",
        rotate_credentials,
        (_REGISTRY, GRACE, YES),
    ),
)
