"""A registry for tests of the APIs: `registry` is open (`--dev`), `guarded` asks for credentials; both as the
administrator sees them."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support import postgres
from support.pushing import Registry
from support.registry import ADMIN, on_database, served_app

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


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "engine" in metafunc.fixturenames and metafunc.module.__name__.rpartition(".")[2] in ON_BOTH_ENGINES:
        metafunc.parametrize("engine", ["sqlite", "postgres"])


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
    return root


@pytest.fixture
async def registry(root: Path) -> AsyncIterator[Registry]:
    async with served_app(root, dev=True) as client:
        yield Registry(client)


@pytest.fixture
async def guarded(root: Path) -> AsyncIterator[Registry]:
    async with served_app(root) as client:
        yield Registry(client, ADMIN)
