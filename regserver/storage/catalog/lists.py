"""Several values in one statement, in the dialect of both engines: a fixed number of placeholders, the last value
repeated in those that are left over. A statement costs the writer's thread a turn at the interpreter, so 50 rows by one
statement hold up far less than 50 statements.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

MANY = 50


def listed(sql: str, first: int) -> str:
    """``sql`` with MANY placeholders from ``$first`` on in the place of ``<list>``."""
    return sql.replace("<list>", ", ".join(f"${number}" for number in range(first, first + MANY)))


def lists(values: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The values in their order as lists of MANY; the last one may repeat its last value."""
    for start in range(0, len(values), MANY):
        some = tuple(values[start : start + MANY])
        yield some + some[-1:] * (MANY - len(some))
