"""A bar for work that counts what it has done."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_STEP = 0.002  # of the whole: redrawing for less would cost more than it shows

Show = Callable[[str, int, int], None]  # (what is being done, done, of so much)


@contextmanager
def progress() -> Iterator[Show]:
    """On a terminal's stderr, else nothing: a log is not a terminal. ``Show`` may be called from any thread."""
    if not sys.stderr.isatty():
        yield lambda phase, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        shown: tuple[str, int] = ("", 0)

        def show(phase: str, done: int, total: int) -> None:
            nonlocal shown
            if phase == shown[0] and done < total and done - shown[1] < total * _STEP:
                return
            if phase != shown[0]:
                bar.reset(task, total=total or None, description=phase)
            shown = (phase, done)
            bar.update(task, completed=done, total=total or None)

        yield show
