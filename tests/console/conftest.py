"""The system's Chromium in front of a served registry. A missing browser fails, and says which command installs it."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from support.clients import Crane, Missing, Oras, find
from support.looking import Looking, Shots
from support.served import Served, serve
from support.showcase import BASE, Gallery, Painter

IN_CI = bool(os.environ.get("REGSERVER_CI"))
PICTURES = Path(__file__).resolve().parents[2] / "docs" / "console"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.clients)


def require(command: str) -> str:
    try:
        return find(command)
    except Missing as missing:
        reason = str(missing)
    pytest.fail(reason, pytrace=False)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = require("chromium")
    with sync_playwright() as playwright:  # it runs an event loop in this thread until its end: no longer than needed
        # No sandbox: the tests may run as root. What the browser opens is a registry on this machine.
        running = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield running
        running.close()


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An ordinary server: closed, with an administrator's token."""
    with serve(tmp_path_factory.mktemp("served") / "data") as served:
        yield served


@pytest.fixture(scope="session")
def gallery(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    """A registry with images of a team and one that means harm, pushed by real clients."""
    require("crane")
    require("oras")
    home = tmp_path_factory.mktemp("gallery")
    tenant = served.create_registry("my-images")
    full = served.create_registry("archive", public=True)
    crane, oras = Crane(home / "crane"), Oras(home / "oras")
    for client in (crane, oras):
        client.login(tenant.robot).check()
    gallery = Gallery.hang(tenant, crane, oras, Painter(home))
    crane.login(full.robot).check()
    crane.push(Painter(home / "archive").image([BASE]), full.image("alpine", "3.22")).check()
    for registry, gigabytes in ((tenant, 0.008), (full, 0.0014)):
        quota = {"quota": {"storage_gb": gigabytes}}
        assert served.manage("PATCH", f"/v1/registries/{registry.id}", quota).status == 200
    assert served.manage("DELETE", f"/v1/registries/{tenant.id}/images/old-worker").status == 204
    return gallery


@pytest.fixture
def look(browser: Browser, served: Served) -> Iterator[Callable[..., Looking]]:
    """Somebody in front of the browser. In the end nothing was refused, and nothing fetched from elsewhere."""
    opened: list[Looking] = []

    def look(at: Served = served, **context: object) -> Looking:
        opened.append(Looking(browser, at.url, **context))
        return opened[-1]

    yield look
    for one in opened:
        one.close()
    for one in opened:
        assert one.complaints == []


@pytest.fixture
def admin(look: Callable[..., Looking], served: Served) -> Looking:
    """The administrator, signed in."""
    somebody = look()
    somebody.sign_in(served.admin_token)
    return somebody


@pytest.fixture(scope="session")
def shots(browser: Browser) -> Shots:
    return Shots(PICTURES, browser)
