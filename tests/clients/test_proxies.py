"""The proxies of docs/examples, really run: pushes and pulls through them, and what `regserver doctor` says where a
line of theirs is missing."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support import proxies
from support.clients import Docker, Missing, Skopeo, find
from support.layouts import make_image
from support.proxies import Certificate, make_certificate
from support.served import Served, serve

Proxy = Callable[..., contextlib.AbstractContextManager[str]]
BEHIND = ("--trusted-proxies", "127.0.0.1")


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A registry that believes a proxy on this machine."""
    with serve(tmp_path_factory.mktemp("behind") / "data", *BEHIND) as served:
        yield served


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return make_certificate(tmp_path / "certificate", "localhost")


@pytest.fixture(params=["nginx", "caddy"])
def proxy(request: pytest.FixtureRequest) -> Proxy:
    return require(request.param)


def require(name: str) -> Proxy:
    try:
        find(name)
    except Missing as missing:
        pytest.fail(str(missing), pytrace=False)
    return getattr(proxies, name)  # type: ignore[no-any-return]


def doctor(url: str, certificate: Certificate, *arguments: str) -> tuple[int, dict[str, tuple[str, str]]]:
    """Its exit code, and by check the worst finding: level, and what to do."""
    command = [sys.executable, "-m", "regserver", "doctor", "--server", url, "--json", *arguments]
    environment = {**os.environ, "SSL_CERT_FILE": str(certificate.authority)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    found: dict[str, tuple[str, str]] = {}
    order = ("ok", "warning", "error")
    for row in json.loads(done.stdout)["findings"]:
        assert (row["level"] == "ok") == (row["next"] == ""), row
        if row["check"] not in found or order.index(row["level"]) > order.index(found[row["check"]][0]):
            found[row["check"]] = (row["level"], row["next"])
    return done.returncode, found


def test_images_go_through_the_example_and_the_doctor_has_nothing_to_say(
    proxy: Proxy, behind: Served, certificate: Certificate, start: Any, tmp_path: Path
) -> None:
    image = make_image(tmp_path / "image", "through a proxy", size=3_000_000)
    team = behind.create_registry("behind-nginx" if proxy is proxies.nginx else "behind-caddy")
    with proxy(tmp_path, behind.host, certificate) as host:
        account = dataclasses.replace(team.robot, host=host)
        skopeo, docker = start(Skopeo), start(Docker)
        skopeo.authfile.write_text(json.dumps(account.docker_config))
        name, trusting = f"docker://{host}/{team.name}/app:v1", certificate.authority.parent
        copy = ("copy", "--authfile", skopeo.authfile)
        skopeo.run(*copy, "--dest-cert-dir", trusting, f"oci:{image.path}:made", name).check()
        skopeo.run(*copy, "--src-cert-dir", trusting, name, f"oci:{tmp_path / 'back'}:made").check()
        docker.login(account).check()
        docker.push(image, f"{host}/{team.name}/by-docker:v1").check()
        assert docker.pull(f"{host}/{team.name}/app:v1").config == image.config
        code, found = doctor(f"https://{host}", certificate, "--strict")
    assert set(behind.stored(team, "app", "v1")) == image.digests
    assert behind.stored(team, "by-docker", "v1").keys() >= {image.config}
    assert (code, {check: level for check, (level, _) in found.items() if level != "ok"}) == (0, {})
    assert set(found) == {"tls", "reach", "clock", "ready", "login", "headers", "body"}


@pytest.mark.parametrize(
    ("line", "instead", "check", "level", "advice"),
    [
        ("proxy_set_header X-Forwarded-Proto $scheme;", "", "login", "error", "X-Forwarded-Proto"),
        ("proxy_set_header Host $http_host;", "", "login", "error", "Host $http_host"),
        ("client_max_body_size 0;", "", "body", "error", "client_max_body_size 0"),
        ("proxy_request_buffering off;", "", "body", "warning", "proxy_request_buffering off"),
        ("proxy_pass http://regserver;", "return 200 welcome;", "reach", "error", "let the proxy pass /v2/"),
        ("proxy_pass http://regserver;", "proxy_pass http://127.0.0.1:1;", "reach", "error", "is regserver running"),
        ('proxy_set_header Connection "";', 'proxy_set_header Authorization "";', "headers", "error", "Authorization"),
        ("client_body_timeout 300s;", "large_client_header_buffers 4 2k;", "headers", "error", "large_client_header"),
    ],
)
def test_a_line_that_is_missing_in_nginx_is_named_by_the_doctor(
    behind: Served, certificate: Certificate, tmp_path: Path, line: str, instead: str, check: str, level: str,
    advice: str,
) -> None:  # fmt: skip
    with require("nginx")(tmp_path, behind.host, certificate, (line, instead)) as host:
        code, found = doctor(f"https://{host}", certificate)
    assert found[check][0] == level, found
    assert advice in found[check][1]
    assert code == (1 if level == "error" else 0)
    assert {other for other, (bad, _) in found.items() if bad != "ok"} == {check}, "and nothing else is blamed"


def test_a_proxy_that_is_not_trusted_is_found_and_a_public_url_needs_no_trust(
    certificate: Certificate, tmp_path: Path
) -> None:
    with serve(tmp_path / "plain") as served, require("nginx")(tmp_path, served.host, certificate) as host:
        code, found = doctor(f"https://{host}", certificate)
        assert (code, found["login"][0]) == (1, "error")
        assert f"--public-url https://{host}" in found["login"][1]
        assert "--trusted-proxies" in found["login"][1]


@pytest.mark.parametrize(
    ("names", "days", "trusted", "level", "advice"),
    [
        (["localhost"], 10, True, "warning", "renew it"),
        (["localhost"], -1, True, "error", "renew it"),
        (["elsewhere.example"], 90, True, "error", "names include localhost"),
        (["localhost"], 90, False, "error", "serve the whole chain"),
    ],
    ids=["ends soon", "has ended", "another name", "unknown authority"],
)
def test_a_certificate_that_clients_refuse_or_soon_will_is_found(
    behind: Served, tmp_path: Path, names: list[str], days: float, trusted: bool, level: str, advice: str
) -> None:
    made = make_certificate(tmp_path / "made", *names, days=days)
    trust = made if trusted else make_certificate(tmp_path / "other", "localhost")
    with require("nginx")(tmp_path, behind.host, made) as host:
        code, found = doctor(f"https://{host}", trust)
    assert (found["tls"][0], code) == (level, 1 if level == "error" else 0), found
    assert advice in found["tls"][1]
    assert found["login"][0] == "ok", "what comes after it is looked at all the same"
