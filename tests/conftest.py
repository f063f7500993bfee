"""For every test: what it inherits, and which need the PostgreSQL server."""

import signal

import pytest

# Where the tests run behind a shell's `&`, SIGINT is ignored, and so it would be by every command that they interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those whose place, name or parameter says so."""
    for item in items:
        if "postgres" in item.nodeid.lower() and "://" not in item.nodeid:  # but not a URL
            item.add_marker(pytest.mark.postgres)
