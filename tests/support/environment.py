"""What a started server finds in its environment: nothing that the tests themselves are set by."""

import os
from collections.abc import Mapping


def clean_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's own without settings of regserver, and ``more``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("REGSERVER_")}
    return {**kept, **(more or {})}
