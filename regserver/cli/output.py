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
    _draw_on_terminal(titles, cells)


def _draw_on_terminal(titles: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    """Ids and digests stay in one piece, to be copied, where the width allows; what has spaces wraps there."""
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    words = [
        max(cell_len(word) for cell in column for word in cell.split() or [""]) for column in zip(*cells, strict=True)
    ]
    fits = sum(max(cell_len(title), word) + 2 for title, word in zip(titles, words, strict=True)) - 2 <= console.width
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title, *column in zip(titles, *cells, strict=True):
        in_one_piece = fits and not any(" " in cell for cell in column)
        table.add_column(title, overflow="fold", no_wrap=in_one_piece)
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)
