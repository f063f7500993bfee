"""stub"""

from __future__ import annotations

from typing import Any

POLICY = "default-src 'none'"


def render(document: dict[str, Any]) -> str:
    return "<!doctype html>"
