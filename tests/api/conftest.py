"""A registry for tests of the APIs: `registry` is open (`--dev`), `guarded` asks for credentials; both as the
administrator sees them."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support import postgres
from support.pushing import Registry
from support.registry import ADMIN, on_database, served_app, served_by

# Modules whose tests run on both: what they ask of the catalog is where two engines could differ.
ON_BOTH_ENGINES = frozenset(
    f"test_{name}"
    for name in (
        *(
            "api_tokens",
            "blobs",
            "collection",
            "events",
            "explain",
            "idempotency",
            "images",
            "lists",
            "policies",
            "quota",
        ),
        *("registries", "robots", "tag_detail", "undo"),
    )
)


# Modules whose tests also run on two servers of one folder, request by request in turn: what begins on one goes on, is
# repeated or is undone on the other.
ON_TWO_WORKERS = frozenset(
    f"test_{name}" for name in ("blobs", "collection", "idempotency", "manifests", "quota", "uploads")
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    module = metafunc.module.__name__.rpartition(".")[2]
    engines = ["sqlite"] + ["postgres"] * (module in ON_BOTH_ENGINES) + ["two workers"] * (module in ON_TWO_WORKERS)
    if "engine" in metafunc.fixturenames and len(engines) > 1:
        metafunc.parametrize("engine", engines)


@pytest.fixture
def engine() -> str:
    return "sqlite"


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a first start leaves behind, made once: its key takes longer than most tests."""
    root = tmp_path_factory.mktemp("installation") / "root"

    async def start_and_end() -> None:
        async with served_app(root):
            pass

    asyncio.run(start_and_end())
    return root


@pytest.fixture
def root(tmp_path: Path, installation: Path, engine: str) -> Path:
    """The folder of an installation that has been started before and holds nothing, its catalog on an engine."""
    root = Path(shutil.copytree(installation, tmp_path / "root"))
    catalog = root / "catalog.sqlite3"
    if engine == "postgres":
        on_database(root, postgres.server().catalog_like(catalog))
        catalog.unlink()
    if engine == "two workers":
        served_by(root, 2)
    return root


@pytest.fixture
async def registry(root: Path) -> AsyncIterator[Registry]:
    async with served_app(root, dev=True) as client:
        yield Registry(client)


@pytest.fixture
async def guarded(root: Path) -> AsyncIterator[Registry]:
    async with served_app(root) as client:
        yield Registry(client, ADMIN)
