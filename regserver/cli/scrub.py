"""What ``regserver scrub`` shows: how far it is, what it found, and what to do about it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from regserver.cli.exits import DAMAGED, OK
from regserver.cli.output import Column, Output
from regserver.cli.words import amount, plain, short_digest, size

Tell = Callable[[str, int, int], None]

_FINDINGS = (
    Column("KIND", "kind"),
    Column("NAME", "name", short_digest),
    Column("FAULT", "fault"),
    Column("DONE", "deed"),
    Column("IMAGES", "images", lambda images: plain(", ".join(images))),
)


class Report:
    """Collects findings and writes them at the end; ``in_full`` shows digests whole."""

    def __init__(self, *, as_json: bool, in_full: bool) -> None:
        self._out = Output(as_json=as_json, in_full=in_full)
        self._findings: list[dict[str, Any]] = []
        self._damaged = 0

    def found(self, kind: str, name: str, fault: str | None, deed: str, images: Sequence[str], damage: bool) -> None:
        self._findings.append({"kind": kind, "name": name, "fault": fault, "deed": deed, "images": list(images)})
        self._damaged += damage

    def end(self, blobs: int, manifests: int, read: int, *, dry_run: bool) -> int:
        """Writes the report; returns the exit code."""
        if self._out.as_json:
            figures = {"blobs": blobs, "manifests": manifests, "bytes": read, "damaged": self._damaged}
            self._out.data({**figures, "dry_run": dry_run, "findings": self._findings})
        else:
            if self._findings:
                self._out.table(self._findings, _FINDINGS, empty="")
            self._out.say(
                f"read {amount(blobs, 'blob')} and {amount(manifests, 'manifest')}, {size(read)}: {self._sum()}"
            )
        if self._damaged:
            done = "nothing was done: leave --dry-run out to withdraw it" if dry_run else "it is served to nobody"
            self._out.note(f"{done}; push an image again from where it was built, and it is whole again")
        return DAMAGED if self._damaged else OK

    def _sum(self) -> str:
        return f"{self._damaged} damaged" if self._damaged else "all sound"


@contextlib.contextmanager
def progress() -> Iterator[Tell]:
    """A bar on a terminal's stderr, else nothing: a log is not a terminal."""
    if not sys.stderr.isatty():
        yield lambda phase, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[count]}"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("blobs", total=None, count="")

        def tell(phase: str, done: int, total: int) -> None:
            count = f"{size(done)} of {size(total)}" if phase == "blobs" else str(done)
            bar.update(task, description=phase, completed=done, total=total or None, count=count)

        yield tell
