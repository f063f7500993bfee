"""The fixtures that pytest finds by itself where regserver is installed (entry point ``pytest11``)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from regserver.testing import Registry, RegistryServer


@pytest.fixture(scope="session")
def registry_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """One registry server for all tests of this process, started when the first one asks."""
    from regserver.testing import RegistryServer

    with RegistryServer(tmp_path_factory.mktemp("regserver") / "root") as server:
        yield server


@pytest.fixture
def registry(registry_server: RegistryServer) -> Iterator[Registry]:
    """An empty registry with credentials of its own, on a server that tests share. It ends without its faults.

    A fault that was set and that no request met is an error at the end: such a test has tried nothing.
    """
    registry = registry_server.create_registry()
    try:
        yield registry
        registry.faults.check()
    finally:
        registry_server.forget()


@pytest.fixture(scope="session")
def registry_installation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a server that was started once and holds nothing: others begin as its copy, at half the time."""
    from regserver.testing import RegistryServer

    root = tmp_path_factory.mktemp("regserver") / "installation"
    with RegistryServer(root):
        return root


@pytest.fixture
def fresh_registry(tmp_path_factory: pytest.TempPathFactory, registry_installation: Path) -> Iterator[Registry]:
    """The same on a server of its own, which holds nothing else: for tests of catalogs, or that run beside others."""
    from regserver.testing import serve

    with serve(tmp_path_factory.mktemp("regserver") / "root", like=registry_installation) as registry:
        yield registry
