"""The command: looks at a server, a folder or both, and says what it found."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
from collections.abc import Iterable, Mapping

from regserver.cli import settings as login
from regserver.cli.exits import FAILED, OK, CommandError
from regserver.cli.words import amount, plain
from regserver.config import ConfigError, Settings
from regserver.doctor.findings import Finding, Findings, Level
from regserver.doctor.folder import look_at_folder
from regserver.doctor.server import look_at_server

_SIGNS = {Level.OK: "ok     ", Level.WARNING: "warning", Level.ERROR: "error  "}


def diagnose(options: argparse.Namespace, settings: Settings | None) -> int:
    """``settings`` where a folder was named. 1 where there is an error, with --strict a warning too."""
    try:
        looks = _looks(options.server, settings, os.environ)
    except CommandError as wrong:
        raise ConfigError(wrong.message) from None
    found = list(_shown(looks, as_json=options.json))
    counts = {level: sum(one.level is level for one in found) for level in Level}
    if options.json:
        rows = [{"check": one.check, "level": one.level, "message": one.message, "next": one.next} for one in found]
        document = {"findings": rows, "errors": counts[Level.ERROR], "warnings": counts[Level.WARNING]}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        errors, warnings = amount(counts[Level.ERROR], "error"), amount(counts[Level.WARNING], "warning")
        sys.stdout.write(f"{errors}, {warnings}\n")
    is_bad = counts[Level.ERROR] or (options.strict and counts[Level.WARNING])
    return FAILED if is_bad else OK


def _looks(server: str | None, settings: Settings | None, environment: Mapping[str, str]) -> Iterable[Finding]:
    """At the folder, if one is named; at the server, if one is named or there is nothing else to look at."""
    looks: list[Findings] = []
    if settings is not None:
        looks.append(look_at_folder(settings))
    if server is not None or settings is None:
        looks.append(look_at_server(login.resolve(server, None, environment).server))
    return itertools.chain.from_iterable(looks)


def _shown(found: Iterable[Finding], *, as_json: bool) -> Iterable[Finding]:
    """Each as it comes: a look may take a while."""
    for one in found:
        if not as_json:
            sys.stdout.write(f"{_SIGNS[one.level]}  {one.check:<10}  {plain(one.message)}\n")
            if one.next:
                sys.stdout.write(f"{'':21}→ {one.next}\n")
            sys.stdout.flush()
        yield one
