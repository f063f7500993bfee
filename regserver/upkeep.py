"""The commands on a root folder besides `serve`: backup, restore, rebuild.

Each says on stdout what it did, shows progress on a terminal's stderr, and ends with 0; 1 where it failed or found
damage, 2 where it was not asked rightly.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path

from regserver.cli.exits import FAILED, OK, USAGE
from regserver.cli.parsing import argument
from regserver.cli.words import amount, plain, size
from regserver.config import Settings

BACKUP = (
    argument("file", metavar="FILE", type=Path, help="a new file; its name ends in .tar.zst or .tar"),
    argument("--since", metavar="FILE", type=Path, help="an earlier backup, whose blobs are left out"),
)
RESTORE = (
    argument("files", metavar="FILE", type=Path, nargs="+", help="a backup, and the earlier ones that it adds to"),
    argument("--allow-damaged", action="store_true", help="restore the rest where blobs are missing or damaged"),
)

REBUILD = (
    argument("--manifests", metavar="FILE", type=Path, help="the saved copy; ROOT/manifests.jsonl.zst without it"),
)


def back_up(settings: Settings, options: argparse.Namespace) -> int:
    from regserver.app import CANNOT_START
    from regserver.app import back_up as run
    from regserver.cli.progress import progress
    from regserver.content.backup import BackupRefused
    from regserver.storage.archives import ArchiveFailed

    begun = time.monotonic()
    try:
        with progress() as tell:
            done = asyncio.run(run(settings, options.file, options.since, tell))
    except BackupRefused as error:
        return _fail(error, USAGE)
    except (ArchiveFailed, *CANNOT_START) as error:
        return _fail(error)
    held = f"{amount(done.header.blobs, 'blob')}, {size(done.header.bytes)}"
    written = f"{size(done.file.stat().st_size)} in {time.monotonic() - begun:.1f} s"
    sys.stdout.write(f"{plain(done.file)}: {held}; {written}\n")
    if not done.damaged:
        return OK
    for digest in done.damaged:
        sys.stderr.write(f"regserver: {digest} is missing or damaged in {settings.root}\n")
    return _fail(
        f"{amount(len(done.damaged), 'blob')} could not be backed up, so {plain(options.file)} was not made; "
        "delete the images that need them, collect, and push them again"
    )


def restore(settings: Settings, options: argparse.Namespace) -> int:
    from regserver.cli.progress import progress
    from regserver.content.restore import RestoreRefused
    from regserver.content.restore import restore as run
    from regserver.storage.archives import ArchiveFailed
    from regserver.storage.sql.port import DatabaseFailed

    begun = time.monotonic()
    try:
        with progress() as tell:
            done = run(options.files, settings.root, tell, allow_damaged=options.allow_damaged)
    except RestoreRefused as error:
        return _fail(error, USAGE)
    except (ArchiveFailed, DatabaseFailed, OSError) as error:
        return _fail(error)
    held = f"{amount(done.blobs, 'blob')}, {size(done.bytes)}, {amount(done.manifests, 'manifest')}"
    sys.stdout.write(
        f"{plain(done.root)}: {held}, every digest checked; as of {done.header.made_at}; "
        f"{time.monotonic() - begun:.1f} s\n"
    )
    for digest in done.damaged:
        sys.stderr.write(f"regserver: {digest} is missing: images that need it cannot be pulled\n")
    return FAILED if done.damaged else OK


def rebuild(settings: Settings, options: argparse.Namespace) -> int:
    from regserver.app import CANNOT_START
    from regserver.app import rebuild as run
    from regserver.cli.progress import progress
    from regserver.storage.archives import ArchiveFailed
    from regserver.storage.saved import FILE

    copy = options.manifests or settings.root / FILE
    try:
        with progress() as tell:
            done = asyncio.run(run(settings, copy, tell))
    except (ArchiveFailed, *CANNOT_START) as error:
        return _fail(error)
    registries = "1 registry" if done.registries == 1 else f"{done.registries} registries"
    counts = (
        amount(number, noun)
        for number, noun in ((done.blobs, "blob"), (done.manifests, "manifest"), (done.tags, "tag"))
    )
    sys.stdout.write(
        f"{plain(settings.root)}: {', '.join(counts)} in {registries}; what it could not bring back is "
        "in docs/backup.md: robots have new passwords, API tokens and policies are to be made again\n"
    )
    for digest in done.damaged:
        sys.stderr.write(f"regserver: {digest}: the bytes on the disk are others; the next start removes the file\n")
    for lost in done.lost:
        tags = f" ({', '.join(lost.tags)})" if lost.tags else ""
        sys.stderr.write(f"regserver: {plain(f'{lost.image}{tags}: {lost.digest} is lost: {lost.reason}')}\n")
    return FAILED if done.damaged or done.lost else OK


def _fail(error: object, code: int = FAILED) -> int:
    if isinstance(error, OSError) and error.strerror:
        error = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    sys.stderr.write(f"regserver: {plain(error)}\n")
    return code
