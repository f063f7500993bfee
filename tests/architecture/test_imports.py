"""Who may import what: the layers as pyproject.toml has them for import-linter, and names from outside the project."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import regserver

PACKAGE = Path(regserver.__file__).parent
WEB = ("__main__.py", "app.py", "serving.py", "web/", "oci/", "mgmt/", "console/", "testing/")

# Modules, and the only places that may know them.
ALLOWED = {
    "aiohttp": WEB,
    "yarl": WEB,
    "multidict": WEB,
    "http": (*WEB, "cli/api.py", "cli/distribution.py", "cli/remote.py", "doctor/server.py"),
    "rich": ("cli/",),
    "shtab": ("cli/",),
    "prometheus_client": ("web/metrics.py",),
    "opentelemetry": ("web/tracing.py",),
    "aiosqlite": ("storage/sql/sqlite.py",),
    "sqlite3": (
        "storage/sql/sqlite.py",
        "storage/sql/group_commit.py",
        "storage/sql/statements.py",
        "storage/sql/copying.py",
    ),
    "asyncpg": ("storage/sql/postgres.py",),
    "aiobotocore": ("storage/blobs/s3.py",),
    "botocore": ("storage/blobs/s3.py",),
    "jwt": ("auth/",),
    "cryptography": ("auth/", "doctor/certificates.py"),
}


def imported(source: str) -> Iterator[tuple[int, str]]:
    """(line, module) of every import, those inside functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or ""


def intruders(module: str, places: tuple[str, ...]) -> list[str]:
    """Where a module is imported and may not be."""
    found = []
    for file in sorted(PACKAGE.rglob("*.py")):
        name = file.relative_to(PACKAGE).as_posix()
        if not name.startswith(places):
            found += [
                f"{name}:{line}: {what}" for line, what in imported(file.read_text()) if what.split(".")[0] == module
            ]
    return found


@pytest.mark.parametrize("module", sorted(ALLOWED))
def test_a_module_is_known_only_where_it_may_be(module: str) -> None:
    assert intruders(module, ALLOWED[module]) == []


def test_the_vocabulary_does_no_input_or_output() -> None:
    worldly = {"asyncio", "os", "pathlib", "shutil", "socket", "sqlite3", "subprocess", "tempfile", "threading"}
    known = {
        f"{file.name}:{line}: {name}"
        for file in sorted(PACKAGE.joinpath("model").rglob("*.py"))
        for line, name in imported(file.read_text())
        if name.split(".")[0] in worldly
    }
    assert known == set()


def test_the_layers_hold() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    answer = subprocess.run([lint, "--no-cache"], cwd=PACKAGE.parent, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
