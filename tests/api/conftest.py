"""A registry for tests of the APIs: `registry` is open (`--dev`), `guarded` asks for credentials; both as the
administrator sees them."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.pushing import Registry
from support.registry import ADMIN, served_app


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
def root(tmp_path: Path, installation: Path) -> Path:
    """The folder of an installation that has been started before and holds nothing."""
    return Path(shutil.copytree(installation, tmp_path / "root"))


@pytest.fixture
async def registry(root: Path) -> AsyncIterator[Registry]:
    async with served_app(root, dev=True) as client:
        yield Registry(client)


@pytest.fixture
async def guarded(root: Path) -> AsyncIterator[Registry]:
    async with served_app(root) as client:
        yield Registry(client, ADMIN)
