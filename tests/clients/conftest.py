"""A served registry, a Docker engine, and the real clients, all on 127.0.0.1 and in folders of the test run."""

import itertools
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.clients import SEARCH, Client, Docker, Missing, find
from support.served import Account, Served, Tenant, serve

ENGINE_SECONDS = 60
WORKERS = os.environ.get("CLIENT_WORKERS", "1")  # how many processes serve them
IN_CI = bool(os.environ.get("REGSERVER_CI"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and item.get_closest_marker("conformance") is None:
            item.add_marker(pytest.mark.clients)


def require(command: str) -> str:
    """Where a client is. A missing one fails the test and says which command installs it."""
    try:
        return find(command)
    except Missing as missing:
        reason = str(missing)
    pytest.fail(reason, pytrace=False)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An ordinary server: closed, with an administrator's token."""
    with serve(tmp_path_factory.mktemp("served") / "data", "--workers", WORKERS) as served:
        yield served


@pytest.fixture(scope="session")
def development(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server in development mode: open, registries come to be by the first push."""
    with serve(tmp_path_factory.mktemp("development") / "data", "--dev", "--workers", WORKERS) as served:
        yield served


@pytest.fixture(scope="session")
def names() -> Iterator[int]:
    return itertools.count(1)


@pytest.fixture
def create(served: Served, names: Iterator[int]) -> Callable[..., Tenant]:
    """Create a registry of a new name over /v1."""

    def create(prefix: str = "my-images", *, public: bool = False) -> Tenant:
        return served.create_registry(f"{prefix}-{next(names)}", public=public)

    return create


@pytest.fixture
def registry(create: Callable[..., Tenant]) -> Tenant:
    """A private registry."""
    return create()


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Docker engine without network or containers: it loads, pushes and pulls images. Its socket's address."""
    program = require("dockerd")
    if os.geteuid() != 0:
        reason = "a Docker engine needs root: run the tests as root"
        pytest.fail(reason, pytrace=False) if IN_CI else pytest.skip(reason)
    folder = tmp_path_factory.mktemp("engine")
    address = f"unix://{folder}/docker.sock"
    command: list[str | Path] = [
        program, "--data-root", folder / "data", "--exec-root", folder / "exec", "--host", address,
        "--pidfile", folder / "pid", "--bridge=none", "--iptables=false", "--ip6tables=false",
        "--storage-driver=vfs", "--insecure-registry", "127.0.0.0/8",
    ]  # fmt: skip
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, "PATH": SEARCH})
    try:
        deadline = time.monotonic() + ENGINE_SECONDS
        while subprocess.run([require("docker"), "--host", address, "info"], capture_output=True).returncode:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"dockerd did not start:\n{log.read_text(errors='replace')[-3000:]}", pytrace=False)
            time.sleep(0.2)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.fixture
def start(request: pytest.FixtureRequest) -> Iterator[Callable[[type[Client]], Client]]:
    """A client of a kind, in a home folder of its own, that knows no credentials."""
    numbers = itertools.count(1)
    with tempfile.TemporaryDirectory(prefix="rs-", ignore_cleanup_errors=True) as homes:  # podman wants short paths

        def start(kind: type[Client]) -> Client:
            require(kind.name)
            client = kind(Path(homes) / f"{kind.name}-{next(numbers)}")
            if isinstance(client, Docker):
                client.socket = request.getfixturevalue("engine")
                client.forget_all()
            return client

        yield start


@pytest.fixture
def log_in(start: Callable[[type[Client]], Client]) -> Callable[[type[Client], Account], Client]:
    """A client of a kind that is logged in."""

    def log_in(kind: type[Client], account: Account) -> Client:
        client = start(kind)
        client.login(account).check()
        return client

    return log_in
