"""The client's commands where the user has no home: in a container, as a user of any number."""

from __future__ import annotations

from pathlib import Path

import pytest

from regserver.cli import settings
from regserver.cli.docker import DockerConfig
from regserver.cli.exits import CommandError


@pytest.fixture(autouse=True)
def no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)


def test_a_server_and_a_token_that_are_given_need_no_home() -> None:
    login = settings.resolve("http://127.0.0.1:5000", "rsv_x", {})
    assert (login.server, login.token, login.source) == ("http://127.0.0.1:5000", "rsv_x", "--token")


def test_without_a_token_the_server_is_asked_without_one() -> None:
    assert settings.resolve(None, None, {}).token is None


@pytest.mark.parametrize("use", [lambda: settings.save(settings.Saved(), {}), lambda: DockerConfig({})])
def test_what_has_to_be_kept_says_that_there_is_no_place_for_it(use: object) -> None:
    with pytest.raises(CommandError, match="no home folder") as error:
        use()  # type: ignore[operator]
    assert "HOME" in error.value.hint
