"""``regserver gc``: collections, watched to their end."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from regserver.cli.api import part
from regserver.cli.exits import FAILED, NOT_FOUND, CommandError
from regserver.cli.output import Column
from regserver.cli.parsing import LISTED, Command, argument
from regserver.cli.session import Session
from regserver.cli.words import amount, plain, short_digest, size, when

_SHORTEST_POLL, _LONGEST_POLL = 0.05, 1.0  # seconds

_LIST = (
    Column("JOB", "job_id"),
    Column("STATUS", "status"),
    Column("DRY RUN", "dry_run"),
    Column("FREED", "bytes_freed", size),
    Column("BLOBS", "blobs_deleted"),
    Column("MANIFESTS", "manifests_deleted"),
    Column("STARTED", "started_at", when),
    Column("BY", "started_by"),
)
_ONE = (
    Column("Job", "job_id"),
    Column("Status", "status"),
    Column("Phase", "phase"),
    Column("Freed", "bytes_freed", size),
    Column("Blobs", "blobs_deleted"),
    Column("Manifests", "manifests_deleted"),
    Column("Error", "error"),
    Column("Started", "started_at", when),
    Column("By", "started_by"),
    Column("Cancelled by", "cancelled_by"),
    Column("Completed", "completed_at", when),
)
_REPORT = (
    Column("KIND", "kind"),
    Column("IMAGE", "image"),
    Column("DIGEST", "digest", short_digest),
    Column("SIZE", "size_bytes", size),
    Column("REASON", "reason"),
)
_REASON = (
    Column("Digest", "digest"),
    Column("Kind", "kind"),
    Column("Kept", "kept"),
    Column("Reason", "reason"),
    Column("Image", "image"),
    Column("Until", "until", when),
    Column("Damaged", "damaged"),
)


def run_job(session: Session, options: argparse.Namespace) -> None:
    """Ends with the collection; one that runs already is watched instead of a second one."""
    path = f"{session.registry_path(options.registry)}/gc"
    started = session.api.send("POST", path)
    if options.no_wait:
        session.out.record(started, _ONE)
        return
    job = started
    try:
        with _progress(options.registry) as show:
            pause = _SHORTEST_POLL
            while (job := session.api.get(f"{path}/{job['job_id']}"))["status"] == "running":
                show(job)
                time.sleep(pause)
                pause = min(pause * 1.5, _LONGEST_POLL)
            show(job)
    except KeyboardInterrupt:
        name = f"{plain(options.registry)} {job['job_id']}"
        session.out.note(f"the collection goes on; `regserver gc status {name}` shows how it stands")
        raise
    session.out.record(job, _ONE)
    _say_held(session, job)
    if job["status"] == "failed":
        raise CommandError(f"the collection failed: {plain(job.get('error'))}", FAILED, hint="run it again")


def list_jobs(session: Session, options: argparse.Namespace) -> None:
    rows = session.api.pages(f"{session.registry_path(options.registry)}/gc", None, options.limit)
    session.out.table(rows, _LIST, empty="no collection has been asked for")


def show_job(session: Session, options: argparse.Namespace) -> None:
    """The one of that id, or the latest."""
    path = f"{session.registry_path(options.registry)}/gc"
    if options.job is not None:
        session.subject = f"collection {options.job} of {options.registry}"
        job = session.api.get(f"{path}/{part(options.job)}")
    elif latest := session.api.pages(path, None, 1):
        job = latest[0]
    else:
        hint = f"start one: regserver gc run {plain(options.registry)}"
        raise CommandError("no collection has been asked for", NOT_FOUND, hint=hint)
    session.out.record(job, _ONE)
    _say_held(session, job)


def cancel_job(session: Session, options: argparse.Namespace) -> None:
    """The one of that id, or the one that runs. One that has ended is no error: it is shown as it ended."""
    path = f"{session.registry_path(options.registry)}/gc"
    name = plain(options.registry)
    if options.job is None:
        latest = session.api.pages(path, None, 1)
        if not latest or latest[0]["status"] != "running":
            hint = f"`regserver gc list {name}` shows those that have ended"
            raise CommandError("no collection runs", NOT_FOUND, hint=hint)
        options.job = latest[0]["job_id"]
    session.subject = f"collection {options.job} of {options.registry}"
    session.out.record(session.api.send("POST", f"{path}/{part(options.job)}/cancel"), _ONE)


def dry_run(session: Session, options: argparse.Namespace) -> None:
    path = f"{session.registry_path(options.registry)}/gc"
    job = session.api.send("POST", path, {"dry_run": True})
    rows = session.api.pages(f"{path}/{job['job_id']}/report", None, options.limit)
    session.out.table(rows, _REPORT, empty="nothing would go")
    counts = f"{amount(job['blobs_deleted'], 'blob')} and {amount(job['manifests_deleted'], 'manifest')}"
    session.out.note(f"{counts} would go, {size(job['bytes_freed'])} come back; nothing was done")


def explain(session: Session, options: argparse.Namespace) -> None:
    session.subject = f"{options.digest} in {options.registry}"
    found = session.api.get(f"{session.registry_path(options.registry)}/explain/{part(options.digest)}")
    session.out.record(found, _REASON)
    for step, name in enumerate(found.get("path") or []):
        session.out.say(f"{'  ' * step}{'└ ' if step else ''}{plain(name)}")


def _say_held(session: Session, job: dict[str, Any]) -> None:
    if held := job.get("held"):
        session.out.note(f"{len(held)} more are held by pushes under way or by windows; a later collection takes them")


@contextlib.contextmanager
def _progress(name: str) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A bar on a terminal's stderr, else nothing: a log is not a terminal."""
    if not sys.stderr.isatty():
        yield lambda job: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(plain(name), total=None)

        def show(job: dict[str, Any]) -> None:
            progress = job.get("progress") or {}
            phase = plain(job.get("phase"))
            bar.update(
                task, description=phase, completed=progress.get("done") or 0, total=progress.get("total") or None
            )

        yield show


_REGISTRY = argument("registry", metavar="REGISTRY", help="its name or id")

COMMANDS = (
    Command(
        "run",
        "collect garbage and wait for the end",
        "regserver gc run my-images",
        run_job,
        (_REGISTRY, argument("--no-wait", action="store_true", help="only start it")),
    ),
    Command("list", "list the collections so far", "regserver gc list my-images", list_jobs, (_REGISTRY, *LISTED)),
    Command(
        "status",
        "show one collection",
        "regserver gc status my-images",
        show_job,
        (_REGISTRY, argument("job", metavar="JOB", nargs="?", help="its id; the latest without it")),
    ),
    Command(
        "cancel",
        "end the collection that runs; what it has freed stays freed",
        "regserver gc cancel my-images",
        cancel_job,
        (_REGISTRY, argument("job", metavar="JOB", nargs="?", help="its id; the one that runs without it")),
    ),
    Command(
        "dry-run", "say what a collection would take", "regserver gc dry-run my-images", dry_run, (_REGISTRY, *LISTED)
    ),
    Command(
        "explain",
        "say why a digest is kept",
        "regserver gc explain my-images sha256:e3b0c442…",
        explain,
        (_REGISTRY, argument("digest", metavar="DIGEST", help="of a manifest or blob")),
    ),
)
