"""The command line. Imports what a command needs when it runs, so that help and mistakes answer at once."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from regserver import __version__, upkeep
from regserver.cli.exits import FAILED, INTERRUPTED, USAGE
from regserver.cli.groups import NAMES, add_groups
from regserver.cli.parsing import Argument, Arguments, Commands, text
from regserver.cli.words import count as whole
from regserver.config import DATABASE, ROOT, SETTINGS, ConfigError, Setting, Settings
from regserver.loading import load
from regserver.starting import swift_imports
from regserver.workers import WORKER

SERVE_EXAMPLES = """examples:
  regserver serve --dev --root ./regserver-data
      an open registry on 127.0.0.1:5000, for this machine only
  regserver serve --root /var/lib/regserver --listen 0.0.0.0:443 \\
      --tls-cert cert.pem --tls-key key.pem --public-url https://registry.example.com
  REGSERVER_DATABASE=postgresql://regserver@db.example.com/regserver regserver serve --root /var/lib/regserver
      the catalog on a PostgreSQL server; its password comes from ~/.pgpass, or stands in the URL
  regserver serve --root /var/lib/regserver --workers 4
      four processes on one address; a worker that dies is started again
  REGSERVER_ROOT=/data regserver serve --config /etc/regserver.toml
      every setting is a flag, a variable REGSERVER_… and a TOML key (allow_sparse = true);
      flags win over variables, variables over the file

signals: SIGTERM and SIGINT finish running requests, then exit 0; a second one ends at once.
"""
MIGRATE_EXAMPLES = """examples:
  regserver migrate --root /var/lib/regserver
      brings the catalog up to this version; serve does the same when it starts
"""
ROTATE_EXAMPLES = """examples:
  regserver keys rotate --root /var/lib/regserver
      a new key signs from now on, in a running server too; passwords and tokens stay valid
"""
SCRUB_EXAMPLES = """examples:
  regserver scrub --root /var/lib/regserver
      reads and hashes everything that is stored, and withdraws what is not what it was
  regserver scrub --root /var/lib/regserver --dry-run --json
      only says what it finds; for scripts
  regserver scrub --root /var/lib/regserver --bytes-per-second 50000000
      leaves the disk to others

It is safe while a server runs on the same folder. Files that no row names are removed; a row without its file is
withdrawn like one whose bytes have changed. What was withdrawn is kept in ROOT/quarantine until it is pushed again or
collected.

exit codes: 0 everything is sound, 7 content is damaged, 1 it could not be read, 2 wrong usage
"""
BACKUP_EXAMPLES = """examples:
  regserver backup /backups/monday.tar.zst --root /var/lib/regserver
      while the server runs: all that it holds, in one file; .tar instead of .tar.zst is not compressed
  regserver backup /backups/tuesday.tar.zst --since /backups/monday.tar.zst --root /var/lib/regserver
      without the blobs that monday's has; to restore, name both

The file holds the signing keys and the administrator's token: only its owner may read it, and so it should stay.
"""
RESTORE_EXAMPLES = """examples:
  regserver restore /backups/monday.tar.zst --root /var/lib/regserver
      into a new or empty folder, which is there once every digest has been checked
  regserver restore /backups/monday.tar.zst /backups/tuesday.tar.zst --root /var/lib/regserver
      the state of the newest of a chain
"""
REBUILD_EXAMPLES = """examples:
  regserver rebuild --root /var/lib/regserver
      where catalog.sqlite3 is lost and there is no backup: a new one, from the blobs and the saved manifests
  regserver rebuild --root /var/lib/regserver --manifests /backups/manifests.jsonl.zst
"""
DOCTOR_EXAMPLES = """examples:
  regserver doctor --server https://registry.example.com
      as its clients reach it: TLS, proxy headers, limits on uploads, clock
  regserver doctor --root /var/lib/regserver --config /etc/regserver.toml
      the folder and the machine: disk, filesystem, permissions, certificate, catalog; as the server's own user
  regserver doctor --server https://registry.example.com --json --strict

exit codes: 0 nothing is wrong, 1 there are errors (with --strict: or warnings), 2 wrong usage
"""
VERSION_EXAMPLES = """examples:
  regserver version
"""
MAIN_EXAMPLES = """examples:
  regserver serve --dev --root ./regserver-data
  regserver serve --help
  regserver login https://registry.example.com
  regserver registries list

exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 denied, 5 conflict, 6 the server cannot be reached,
7 damaged content found
"""

# Of the settings, those that say what to look at.
_LOOKED_AT = frozenset({"root", "database", "public-url", "tls-cert", "tls-key", "trusted-proxies", "reserve-bytes"})
DOCTOR = tuple(setting for setting in SETTINGS if setting.name in _LOOKED_AT)


def main(arguments: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == [WORKER]:
        with swift_imports():
            from regserver.workers import worker

        return worker.main(given[1:])
    options = _parser(NAMES.intersection(given[:1])).parse_args(given)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except ConfigError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return INTERRUPTED


def _fail(line: str, code: int = USAGE) -> int:
    sys.stderr.write(f"regserver: {line}\n")
    return code


def _parser(wanted: frozenset[str]) -> argparse.ArgumentParser:
    """The whole command line; of the client's commands, what stands below the words in ``wanted``."""
    parser = Arguments(prog="regserver", description="A container registry in one process.", **text(MAIN_EXAMPLES))
    parser.add_argument("--version", action="version", version=f"regserver {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Arguments)

    _command(commands, "serve", _serve, "serve the registry", SERVE_EXAMPLES, SETTINGS)
    _command(commands, "migrate", _migrate, "bring the catalog up to this version", MIGRATE_EXAMPLES, (ROOT, DATABASE))

    _command(commands, "backup", _back_up, "back up, while it serves", BACKUP_EXAMPLES, (ROOT,), upkeep.BACKUP)
    _command(commands, "restore", _restore, "make a folder from a backup", RESTORE_EXAMPLES, (ROOT,), upkeep.RESTORE)

    _command(commands, "rebuild", _rebuild, "make a lost catalog anew", REBUILD_EXAMPLES, (ROOT,), upkeep.REBUILD)

    keys = commands.add_parser("keys", help="signing keys", description="Signing keys.", **text(ROTATE_EXAMPLES))
    actions = keys.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Arguments)
    _command(actions, "rotate", _rotate_keys, "sign with a new key from now on", ROTATE_EXAMPLES, (ROOT, DATABASE))

    scrub = _command(
        commands, "scrub", _scrub, "read everything and find what has rotted", SCRUB_EXAMPLES, (ROOT, DATABASE)
    )
    scrub.add_argument("--bytes-per-second", metavar="N", type=whole, default=0, help="read no faster")
    scrub.add_argument("--dry-run", action="store_true", help="say what is wrong; change nothing")
    scrub.add_argument(
        "--accept-missing", action="store_true", help="withdraw blobs even where none of many has its file"
    )
    scrub.add_argument("--json", action="store_true", help="the report as JSON")
    scrub.add_argument("--no-trunc", action="store_true", help="digests in full")

    doctor = _command(commands, "doctor", _doctor, "find what is wrong, and say what to do", DOCTOR_EXAMPLES, DOCTOR)
    doctor.add_argument("--server", metavar="URL", help="as clients reach it; without --root that of the login")
    doctor.add_argument("--json", action="store_true", help="the findings as JSON")
    doctor.add_argument("--strict", action="store_true", help="warnings count as errors")

    _command(commands, "version", _version, "print the version", VERSION_EXAMPLES, ())
    parser.set_defaults(command=_ask, whole_parser=lambda: _parser(NAMES))
    add_groups(commands, wanted)
    return parser


def _ask(options: argparse.Namespace) -> int:
    """A command of the client: everything it does goes over /v1."""
    from regserver.cli.session import run

    return run(options)


def _command(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace], int],
    summary: str,
    examples: str,
    settings: Sequence[Setting],
    arguments: Sequence[Argument] = (),
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", **text(examples)
    )
    parser.set_defaults(command=run)
    for one in arguments:
        parser.add_argument(*one.flags, **one.options)
    if settings:
        parser.add_argument("--config", metavar="FILE", help="TOML file with settings (REGSERVER_CONFIG)")
    for setting in settings:
        default = f" (default: {setting.default})" if setting.default else ""
        kind: dict[str, Any] = (
            {"action": "store_const", "const": "true"} if setting.is_switch else {"metavar": setting.metavar}
        )
        parser.add_argument(
            f"--{setting.name}",
            dest=setting.name,
            default=None,
            help=f"{setting.help}{default}".replace("%", "%%"),
            **kind,
        )
    return parser


def _settings(options: argparse.Namespace) -> Settings:
    given = vars(options)
    flags = {setting.name: given[setting.name] for setting in SETTINGS if given.get(setting.name) is not None}
    return load(flags, file=options.config)


def _serve(options: argparse.Namespace) -> int:
    settings = _settings(options)
    from regserver import logs

    logs.configure(settings.log_format)
    if settings.workers > 1:  # the supervisor serves nothing, and so imports no more than it needs
        from regserver.workers import supervisor

        return supervisor.run(settings)
    with swift_imports():
        from regserver import serving

    return serving.run(settings)


def _migrate(options: argparse.Namespace) -> int:
    settings = _settings(options)
    from regserver.app import CANNOT_START, upgrade

    try:
        applied = asyncio.run(upgrade(settings))
    except CANNOT_START as error:
        return _fail(str(error), FAILED)
    sys.stdout.writelines(f"applied {name}\n" for name in applied)
    return 0


def _back_up(options: argparse.Namespace) -> int:
    return upkeep.back_up(_settings(options), options)


def _restore(options: argparse.Namespace) -> int:
    return upkeep.restore(_settings(options), options)


def _rebuild(options: argparse.Namespace) -> int:
    return upkeep.rebuild(_settings(options), options)


def _rotate_keys(options: argparse.Namespace) -> int:
    settings = _settings(options)
    from regserver.app import CANNOT_START, rotate_keys

    try:
        rotation = asyncio.run(rotate_keys(settings))
    except CANNOT_START as error:
        return _fail(str(error), FAILED)
    sys.stdout.write(f"{rotation.active} signs from now on; a running server takes it up by itself\n")
    for key, usernames in rotation.held:
        sys.stdout.write(f"{key} stays: the passwords of {', '.join(usernames)} need it until they are rotated\n")
    for key in rotation.removed:
        sys.stdout.write(f"{key} is removed: nothing needs it\n")
    return 0


def _scrub(options: argparse.Namespace) -> int:
    settings = _settings(options)
    from regserver import app
    from regserver.cli.scrub import Report, progress

    report = Report(as_json=options.json, in_full=options.no_trunc)
    try:
        with progress() as tell:
            pass_ = app.scrub(
                settings,
                lambda found: report.found(
                    found.kind, found.name, found.fault, found.deed, found.images, found.is_damage
                ),
                lambda at: tell(at.phase, at.done, at.total),
                bytes_per_second=options.bytes_per_second,
                dry_run=options.dry_run,
                accept_missing=options.accept_missing,
            )
            tally = asyncio.run(pass_)
    except app.CANNOT_START as error:
        return _fail(str(error), FAILED)
    return report.end(*tally, dry_run=options.dry_run)


def _doctor(options: argparse.Namespace) -> int:
    from regserver.doctor.command import diagnose

    is_named = options.root or options.config or os.environ.get(ROOT.variable)
    return diagnose(options, _settings(options) if is_named else None)


def _version(options: argparse.Namespace) -> int:
    sys.stdout.write(f"regserver {__version__}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
