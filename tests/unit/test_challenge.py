"""The challenge and the address it names, against what a request may claim."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from regserver.config import Settings
from regserver.errors import ErrorCode, RegistryError, Unauthorized
from regserver.web.challenge import challenge, public_base


class Transport:
    """As much of a connection as the address of its other end."""

    def __init__(self, peer: object) -> None:
        self._known = {"peername": peer}

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self._known.get(name, default)


def request(
    headers: Mapping[str, str] | list[tuple[str, str]],
    path: str = "/v2/",
    peer: object = ("192.0.2.7", 4711),
    secure: bool = False,
) -> web.Request:
    transport: Any = Transport(peer)
    return make_mocked_request(
        "GET", path, headers=CIMultiDict(headers), transport=transport, sslcontext=secure or None
    )


def settings(**changes: Any) -> Settings:
    return Settings(root=Path("unused"), **changes)


def base(headers: Mapping[str, str] | list[tuple[str, str]], configured: Settings | None = None, **more: Any) -> str:
    return str(public_base(request(headers, **more), configured or settings()))


def test_the_fields_stand_in_one_order() -> None:
    refused = Unauthorized(scope="repository:a/b:pull,push", error="insufficient_scope")
    assert challenge(request({"Host": "localhost:5000"}), settings(), refused) == (
        'Bearer realm="http://localhost:5000/token",service="localhost:5000",'
        'scope="repository:a/b:pull,push",error="insufficient_scope"'
    )


def test_what_is_not_known_is_not_said() -> None:
    said = challenge(request({"Host": "registry.example.com"}, secure=True), settings(), Unauthorized())
    assert said == 'Bearer realm="https://registry.example.com/token",service="registry.example.com"'


@pytest.mark.parametrize(("error", "said"), [(None, "Bearer"), ("invalid_token", 'Bearer error="invalid_token"')])
def test_under_v1_no_token_service_is_named(error: str | None, said: str) -> None:
    asked = request({"Host": "localhost"}, path="/v1/registries")
    assert challenge(asked, settings(), Unauthorized(error=error)) == said


def test_the_configured_address_counts_and_no_header_does() -> None:
    configured = settings(public_url="https://registry.example.com:8443", trusted_proxies=("0.0.0.0/0",))
    for host in ("evil.example", "not a host", ""):
        headers = {"Host": host, "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http"}
        assert base(headers, configured) == "https://registry.example.com:8443"
        assert challenge(request(headers), configured, Unauthorized()) == (
            'Bearer realm="https://registry.example.com:8443/token",service="registry.example.com:8443"'
        )


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", "http://localhost"),
        ("LOCALHOST:5000", "http://localhost:5000"),
        ("127.0.0.1:1", "http://127.0.0.1:1"),
        ("[::1]:5000", "http://[::1]:5000"),
        ("a_b.example-1.com:65535", "http://a_b.example-1.com:65535"),
    ],
)
def test_a_good_host_is_taken(host: str, expected: str) -> None:
    assert base({"Host": host}) == expected


BAD_HOSTS = [
    "",
    " ",
    "a b",
    "a/b",
    "a?b",
    "a#b",
    "user@host",
    "host:",
    "host:0",
    "host:65536",
    "host:999999",
    "host:port",
    "host:1:2",
    'host"',
    "host\\",
    "host,evil",
    "::1",
    "[::1",
    "[]",
    "[:::::]:5",
    "[1.2.3.4]",
    "h\u00f6st",
    "host\r\nX: y",
    "-host",
    "host%2f",
    "a" * 300,
]


@pytest.mark.parametrize("host", BAD_HOSTS, ids=ascii)
def test_a_bad_host_is_refused(host: str) -> None:
    asked = request({"Host": host})
    for act in (lambda: public_base(asked, settings()), lambda: challenge(asked, settings(), Unauthorized())):
        with pytest.raises(RegistryError) as refused:
            act()
        assert refused.value.code is ErrorCode.REQUEST_INVALID


@pytest.mark.parametrize("headers", [[], [("Host", "a"), ("Host", "b")], [("Host", "a"), ("Host", "a")]])
def test_a_request_has_one_host(headers: list[tuple[str, str]]) -> None:
    with pytest.raises(RegistryError) as refused:
        base(headers)
    assert refused.value.code is ErrorCode.REQUEST_INVALID


FORWARDED = {"Host": "backend:5000", "X-Forwarded-Host": "registry.example.com", "X-Forwarded-Proto": "https"}


@pytest.mark.parametrize(
    ("trusted", "peer", "believed"),
    [
        ((), ("10.0.0.1", 1), False),
        (("10.0.0.0/8",), ("10.0.0.1", 1), True),
        (("10.0.0.0/8",), ("::ffff:10.0.0.1", 1, 0, 0), True),
        (("10.0.0.0/8",), ("11.0.0.1", 1), False),
        (("10.0.0.2/32", "fd00::/8"), ("fd00::1", 1, 0, 0), True),
        (("fe80::/10",), ("fe80::1%eth0", 1, 0, 2), True),
        (("0.0.0.0/0",), ("::1", 1, 0, 0), False),
        (("0.0.0.0/0",), "", False),
        (("0.0.0.0/0",), None, False),
    ],
)
def test_only_a_named_proxy_is_believed(trusted: tuple[str, ...], peer: object, believed: bool) -> None:
    expected = "https://registry.example.com" if believed else "http://backend:5000"
    assert base(FORWARDED, settings(trusted_proxies=trusted), peer=peer) == expected


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        ([("X-Forwarded-Proto", "https")], "https://backend"),
        ([("X-Forwarded-Host", "evil.example, proxy.example")], "http://proxy.example"),
        ([("X-Forwarded-Host", "evil.example"), ("X-Forwarded-Host", "proxy.example")], "http://proxy.example"),
        ([("X-Forwarded-Proto", "HTTPS")], "https://backend"),
        ([("X-Forwarded-Host", "")], "http://backend"),
        ([("Forwarded", "host=evil.example")], "http://backend"),
    ],
)
def test_the_nearest_proxy_has_the_last_word(forwarded: list[tuple[str, str]], expected: str) -> None:
    configured = settings(trusted_proxies=("192.0.2.0/24",))
    assert base([("Host", "backend"), *forwarded], configured) == expected


@pytest.mark.parametrize("forwarded", [{"X-Forwarded-Host": "a b"}, {"X-Forwarded-Proto": "gopher"}])
def test_nonsense_of_a_named_proxy_is_refused(forwarded: dict[str, str]) -> None:
    with pytest.raises(RegistryError):
        base({"Host": "backend", **forwarded}, settings(trusted_proxies=("192.0.2.7",)))
