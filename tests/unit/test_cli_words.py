"""What people write to the client's commands, and what they read from them."""

import argparse
from datetime import UTC, datetime, timedelta

import pytest

from regserver.cli import settings, words
from regserver.cli.exits import CommandError


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("15m", 900), ("1h", 3600), ("1D", 86400), ("2w", 14 * 86400)]
)
def test_a_duration_is_read(text: str, seconds: int) -> None:
    assert words.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "-1h", "1.5h", "1h30m", "1 h", "soon", "1y"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="write it as"):
        words.seconds(text)


def test_a_time_is_read_in_every_form() -> None:
    assert words.ahead("2027-01-31T12:00:00Z") == "2027-01-31T12:00:00Z"
    assert words.ahead("2027-01-31T12:00:00+02:00") == "2027-01-31T10:00:00Z"
    for read, sign in ((words.ahead, 1), (words.ago, -1)):
        expected = datetime.now(UTC) + sign * timedelta(days=30)
        assert abs(datetime.fromisoformat(read("30d")) - expected) < timedelta(minutes=1)


@pytest.mark.parametrize("text", ["", "tomorrow", "2027-13-01", "999999999w", "9999999999"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        words.ahead(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mine/api", ("mine", "api", None)),
        ("mine/team/api:v1", ("mine", "team/api", "v1")),
        ("mine/a/tags/b:v1.0", ("mine", "a/tags/b", "v1.0")),
    ],
)
def test_an_image_is_named_as_in_docker_pull(text: str, expected: tuple[str, str, str | None]) -> None:
    assert words.reference(text) == expected


@pytest.mark.parametrize("text", ["", "mine", "mine:v1", "/api", "mine/", "mine/api:", "mine/:v1"])
def test_what_is_no_image_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="REGISTRY/IMAGE"):
        words.reference(text)


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "0.98 KiB"),
        (1536, "1.50 KiB"),
        (31457280, "30.0 MiB"),
        (157286400, "150 MiB"),
        (2**31, "2.00 GiB"),
        (2**70, "1048576 PiB"),
        (None, "-"),
    ],
)
def test_a_size_has_three_digits_and_a_unit(number: int | None, shown: str) -> None:
    assert words.size(number) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "now"), (5, "5 s ago"), (90, "1 min ago"), (7200, "2 h ago"), (86400 * 3, "3 d ago"), (-3600, "in 1 h")],
)
def test_a_time_is_shown_as_a_distance(seconds: int, shown: str) -> None:
    now = datetime(2026, 1, 31, tzinfo=UTC)
    assert words.distance(now - timedelta(seconds=seconds), now) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        ("", "-"),
        ([], "-"),
        (True, "yes"),
        (False, "no"),
        (0, "0"),
        (["a", "b"], "a, b"),
        ({"a": 1}, "a: 1"),
        ("a\x1b[31mb\nc\x7f", "a?[31mb?c?"),
    ],
)
def test_any_value_is_one_line_that_no_terminal_obeys(value: object, shown: str) -> None:
    assert words.plain(value) == shown


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("registry.example.com", "https://registry.example.com"),
        ("registry.example.com:8443", "https://registry.example.com:8443"),
        ("localhost:5000", "http://localhost:5000"),
        ("127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("[::1]:5000", "http://[::1]:5000"),
        ("http://Registry.Example.com/", "http://registry.example.com"),
    ],
)
def test_a_server_without_a_scheme_is_https_but_on_this_machine(text: str, url: str) -> None:
    assert settings.server_url(text) == url


@pytest.mark.parametrize(
    "text", ["", "ftp://a", "http://", "http://a/b", "http://u:p@a", "http://a?q", "http://a:0", "http://a:x", "a b"]
)
def test_what_is_no_server_is_refused(text: str) -> None:
    with pytest.raises(CommandError) as refused:
        settings.server_url(text)
    assert refused.value.code == 2
