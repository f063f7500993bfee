"""Writes that nobody waits for: they share the COMMIT of one that somebody does wait for, if one comes soon.

A COMMIT of their own would make the next client wait for its sync, too. It changes when a transaction runs, and nothing
else; an engine may ignore it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_patient: ContextVar[bool] = ContextVar("patient", default=False)


def is_patient() -> bool:
    """Whether what is written here may wait a little for company."""
    return _patient.get()


@contextmanager
def patiently(wanted: bool = True) -> Iterator[None]:
    """Inside, writes of this task are patient, if ``wanted``."""
    before = _patient.set(wanted)
    try:
        yield
    finally:
        _patient.reset(before)
