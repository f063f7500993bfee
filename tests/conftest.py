"""Which tests need the PostgreSQL server: those whose place, name or parameter says so."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "postgres" in item.nodeid.lower() and "://" not in item.nodeid:  # but not a URL
            item.add_marker(pytest.mark.postgres)
