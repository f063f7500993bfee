"""A root folder and the machine under it. Reads, and writes one file that has no name."""

from __future__ import annotations

import asyncio
import os
import resource
import stat
import time
from contextlib import suppress
from pathlib import Path

from regserver.cli.words import plain, size
from regserver.config import Settings, is_loopback
from regserver.doctor.certificates import look_at_files
from regserver.doctor.findings import Findings, error, ok, warning
from regserver.storage import belonging

CATALOG = "catalog.sqlite3"
SYNCS = 20
SLOW_SECONDS, VERY_SLOW_SECONDS = 0.02, 0.1  # of a sync; every acknowledged push waits for a few
LOW_SPACE, LOW_INODES = 0.05, 0.02  # of the whole
_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "fuse.sshfs",
                      "fuse.glusterfs", "fuse.s3fs", "fuse.rclone", "virtiofs", "lustre"})  # fmt: skip
_PASSING = {
    "tmpfs": "it lies in memory: a restart of the machine loses it",
    "ramfs": "it lies in memory: a restart of the machine loses it",
    "overlay": "it lies in a container's own layer: it goes with the container",
}


def look_at_folder(settings: Settings) -> Findings:
    """What a server of these settings would meet. Run it as the user that the server runs as."""
    root = settings.root
    if not root.is_dir():
        yield error("root", f"{plain(root)} is no folder", "name the folder that serve was given with --root")
        return
    if settings.database is None and not (root / CATALOG).exists():
        yield error(
            "root", f"{plain(root)} holds no catalog", "name another folder; if there was one here, see docs: backup"
        )
    if not os.access(root, os.R_OK | os.W_OK | os.X_OK):
        yield error("root", f"this user may not write in {plain(root)}", "run this as the user that the server runs as")
        return
    yield from _secrets(root)
    yield from _filesystem(root)
    yield from _space(root, settings.reserve_bytes)
    yield from _syncs(root)
    yield from _time(root)
    yield from _descriptors(settings.max_connections)
    if settings.tls_cert is not None and settings.tls_key is not None:
        yield from look_at_files(settings.tls_cert, settings.tls_key, _host(settings))
    yield from _settings(settings)
    if settings.database is not None:
        yield from _database(root, settings.database)
    elif (root / CATALOG).exists():
        yield from _catalog(root / CATALOG)


def _host(settings: Settings) -> str | None:
    from urllib.parse import urlsplit

    return urlsplit(settings.public_url).hostname if settings.public_url else None


def _secrets(root: Path) -> Findings:
    """Keys sign tokens, the administrator's token may do everything: their owner's alone."""
    open_ = [
        path
        for path in (root / "admin-token", *sorted((root / "keys").glob("*")))
        if path.is_file() and stat.S_IMODE(path.stat().st_mode) & 0o077
    ]
    for path in open_:
        yield error("secrets", f"others may read {plain(path)}", f"run: chmod 600 {plain(path)}; then rotate it")
    if not open_:
        yield ok("secrets", "keys and the administrator's token are their owner's alone")


def _filesystem(root: Path) -> Findings:
    kind, options = mount_of(root)
    if "ro" in options:
        yield error(
            "filesystem", f"{plain(root)} is mounted read-only", "mount it rw; if the kernel did that, see dmesg"
        )
    if kind in _NETWORK:
        yield error(
            "filesystem", f"{plain(root)} lies on {kind}, a filesystem of the network",
            "move it to a local disk: locks and syncs do not hold there, and both are relied upon",
        )  # fmt: skip
    elif kind in _PASSING:
        yield warning("filesystem", f"{plain(root)} is {kind}: {_PASSING[kind]}", "give --root a disk or a volume")
    else:
        yield ok("filesystem", f"{kind or 'an unknown filesystem'}, local")


def mount_of(path: Path, table: str | None = None) -> tuple[str, set[str]]:
    """Kind and options of the filesystem that holds a path; empty where nothing says (proc(5), mountinfo)."""
    found, best = ("", set[str]()), -1
    with suppress(OSError):
        lines = Path("/proc/self/mountinfo").read_text() if table is None else table
        whole = str(path.resolve())
        for line in lines.splitlines():
            before, _, after = line.partition(" - ")
            fields, more = before.split(), after.split()
            point = fields[4].encode().decode("unicode_escape")
            inside = whole == point or whole.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= best:
                found, best = (more[0], {*fields[5].split(","), *more[-1].split(",")}), len(point)
    return found


def _space(root: Path, reserve: int) -> Findings:
    disk = os.statvfs(root)
    free, total = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    if free < reserve:
        yield error("space", f"{size(free)} are free, less than --reserve-bytes: the server is not ready",
                    "delete images and collect (regserver gc run NAME), or give it a larger disk")  # fmt: skip
    elif free < total * LOW_SPACE:
        yield warning("space", f"{size(free)} of {size(total)} are free", "collect, set quotas, or get a larger disk")
    else:
        yield ok("space", f"{size(free)} of {size(total)} are free")
    if disk.f_files and disk.f_favail < disk.f_files * LOW_INODES:
        yield error("inodes", f"{disk.f_favail} inodes are free of {disk.f_files}",
                    "remove small files, or make the filesystem anew with more inodes")  # fmt: skip


def _syncs(root: Path) -> Findings:
    took = []
    try:
        file = os.open(root, os.O_TMPFILE | os.O_WRONLY, 0o600)
    except OSError as failed:
        yield warning("sync", f"its speed cannot be measured here: {failed.strerror}", "nothing, if pushes are fast")
        return
    try:
        for _ in range(SYNCS):
            os.write(file, b"\0" * 4096)
            began = time.monotonic()
            os.fsync(file)
            took.append(time.monotonic() - began)
    except OSError as failed:
        yield error("sync", f"the disk does not sync: {failed.strerror}", "the disk is full or failing: see dmesg")
        return
    finally:
        os.close(file)
    median = sorted(took)[SYNCS // 2]
    shown = f"a sync takes {median * 1000:.1f} ms, at most {max(took) * 1000:.1f} ms"
    if median > VERY_SLOW_SECONDS:
        yield error("sync", shown, "every push waits for several: use a faster disk, best an SSD")
    elif median > SLOW_SECONDS:
        yield warning("sync", shown, "pushes wait for it; an SSD takes less than 5 ms")
    else:
        yield ok("sync", shown)


def _time(root: Path) -> Findings:
    newest = max((path.stat().st_mtime for path in root.iterdir()), default=0.0)
    if newest > time.time() + 60:
        yield error("clock", "the clock is behind: files here are from the future",
                    "set it by NTP (timedatectl set-ntp true): certificates and tokens depend on it")  # fmt: skip
    else:
        yield ok("clock", "no file here is from the future")


def _descriptors(wanted: int) -> Findings:
    """The server raises its own limit as far as the hard one allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < min(wanted, 4096) + 256:
        yield warning("files", f"a process may open {hard} files, too few for --max-connections {wanted}",
                      "raise the limit (systemd: LimitNOFILE=65536), or lower --max-connections")  # fmt: skip
    else:
        yield ok("files", "enough files may be open at once")


def _settings(settings: Settings) -> Findings:
    """What no single setting can say."""
    if {"0.0.0.0/0", "::/0"} & set(settings.trusted_proxies):
        yield error("settings", "--trusted-proxies trusts everybody: whoever asks can claim any address",
                    "name the proxy's own address, such as 127.0.0.1")  # fmt: skip
    is_behind = bool(settings.public_url) and settings.tls_cert is None and is_loopback(settings.host)
    if is_behind and not settings.trusted_proxies:
        yield warning("settings", "no proxy is trusted: limits and the audit log see its address for everybody's",
                      "serve with --trusted-proxies 127.0.0.1, and let the proxy set X-Forwarded-For")  # fmt: skip
    if settings.public_url and settings.public_url.startswith("http://") and settings.tls_cert:
        yield error("settings", "--public-url is http, and the server speaks https", "let it begin with https://")


def _catalog(path: Path) -> Findings:
    from regserver.storage.sql.copying import verify
    from regserver.storage.sql.port import DatabaseFailed

    try:
        verify(path, quick=True)
    except DatabaseFailed as failed:
        yield error("catalog", plain(failed), "stop the server, keep a copy of the folder, then see docs: backup")
    else:
        yield ok("catalog", f"{size(path.stat().st_size)}, sound")


def _database(root: Path, url: str) -> Findings:
    """Whether the server is there and takes us, is new enough, and holds the catalog of this folder."""
    from regserver.storage.sql.port import DatabaseFailed

    try:
        asyncio.run(_asked(root, url))
    except (OSError, DatabaseFailed, belonging.FolderRefused) as failed:
        yield error("catalog", plain(failed), "look at --database, at the server's log, and at ~/.pgpass")
    except ImportError:
        yield error("catalog", "--database needs a driver", "run: pip install 'regserver[postgres]'")
    else:
        yield ok("catalog", "the database is reached, and belongs to this folder")


async def _asked(root: Path, url: str) -> None:
    from regserver.storage.sql.postgres import PostgresDatabase

    database = await PostgresDatabase.open(url)
    try:
        await belonging.check(root, database)
    finally:
        await database.close()
