"""What a command shows: tables for people, the API's data for scripts. stdout is the answer, stderr everything else."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from regserver.cli.words import plain, short_digest

Row = Mapping[str, Any]


class Column(NamedTuple):
    """``key`` is a field, or a dotted path to one."""

    title: str
    key: str
    shown: Callable[[Any], str] = plain


class Output:
    def __init__(self, *, as_json: bool, in_full: bool = False) -> None:
        self.as_json = as_json
        self._in_full = in_full

    def table(self, rows: Sequence[Row], columns: Sequence[Column], *, empty: str) -> None:
        """A list; ``empty`` says what a person sees instead of none."""
        if self.as_json:
            return self.data(rows)
        if not rows:
            return self.note(empty)
        cells = [[self._cell(row, column) for column in columns] for row in rows]
        return _draw([column.title for column in columns], cells)

    def record(self, row: Row, columns: Sequence[Column]) -> None:
        """One thing, a field a line. What the API did not send is left out."""
        if self.as_json:
            return self.data(row)
        present = [column for column in columns if field(row, column.key) is not None]
        width = max((len(column.title) for column in present), default=0)
        for column in present:
            sys.stdout.write(f"{column.title:<{width}}  {column.shown(field(row, column.key))}\n")
        return None

    def data(self, value: Any) -> None:
        """JSON as it came: nothing added, nothing renamed."""
        sys.stdout.write(json.dumps(value, indent=2) + "\n")

    def say(self, text: str) -> None:
        """A sentence that is the answer, for people."""
        if not self.as_json:
            sys.stdout.write(f"{text}\n")

    def note(self, text: str) -> None:
        """A sentence beside the answer, for people."""
        if not self.as_json:
            sys.stderr.write(f"{text}\n")

    def _cell(self, row: Row, column: Column) -> str:
        shown = plain if column.shown is short_digest and self._in_full else column.shown
        return shown(field(row, column.key))


def field(row: Any, key: str) -> Any:
    for name in key.split("."):
        row = row.get(name) if isinstance(row, Mapping) else None
    return row


def _draw(titles: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    """On a terminal it keeps to the width; into a pipe every cell goes whole and every row is one line."""
    if not sys.stdout.isatty():
        widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
        for line in (titles, *cells):
            padded = (f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True))
            sys.stdout.write("  ".join(padded).rstrip() + "\n")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    Console(highlight=False).print(table)
