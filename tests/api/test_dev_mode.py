"""--dev is open, and only to this machine: a web page can name neither another Host nor its own Origin."""

import hashlib
from pathlib import Path

import pytest

from support.registry import served_app

EMPTY = "sha256:" + hashlib.sha256(b"").hexdigest()
ORIGINS_OF_OTHERS = [
    "https://example.com",
    "http://example.com:5000",
    "http://localhost.example.com",
    "http://127.0.0.1.example.com",
    "http://localhost@example.com",
    "http://127.0.0.1:5000@example.com",
    "http://example.com@localhost",
    "null",
    "file://",
    "",
    "http://",
    "http://localhost:port",
    "http://[::1",
]
HOSTS_OF_OTHERS = [
    "example.com",
    "example.com:5000",
    "localhost.example.com:5000",
    "127.0.0.1.example.com",
    "10.0.0.1:5000",
    "0.0.0.0:5000",
    "localhost@example.com",
    "example.com@localhost",
    "localhost:port",
    "",
]
OWN_HOSTS = ["localhost", "localhost:5000", "LocalHost:80", "127.0.0.1", "127.3.2.1:5000", "[::1]", "[::1]:5000"]
PATHS = ["/v2/", "/v1/registries", "/healthz", "/token", "/nowhere"]


@pytest.mark.parametrize("host", HOSTS_OF_OTHERS)
async def test_another_host_is_refused_everywhere(tmp_path: Path, host: str) -> None:
    """DNS rebinding: the page's own name was made to resolve to 127.0.0.1."""
    async with served_app(tmp_path, dev=True) as client:
        for path in PATHS:
            answer = await client.get(path, headers={"Host": host})
            assert answer.status == 403, path


@pytest.mark.parametrize("host", OWN_HOSTS)
async def test_every_name_of_this_machine_is_served(tmp_path: Path, host: str) -> None:
    async with served_app(tmp_path, dev=True) as client:
        answer = await client.get("/v2/", headers={"Host": host})
        assert answer.status == 200


@pytest.mark.parametrize("origin", ORIGINS_OF_OTHERS)
async def test_a_page_of_another_site_is_refused_and_nothing_stored(tmp_path: Path, origin: str) -> None:
    async with served_app(tmp_path, dev=True) as client:
        url = f"/v2/my-images/api/blobs/uploads/?digest={EMPTY}"
        answer = await client.post(url, headers={"Origin": origin})
        assert answer.status == 403
        assert (await client.head(f"/v2/my-images/api/blobs/{EMPTY}")).status == 404


@pytest.mark.parametrize("origin", ["http://localhost:5000", "https://localhost", "http://127.0.0.1:3000"])
async def test_a_page_of_this_machine_is_served(tmp_path: Path, origin: str) -> None:
    async with served_app(tmp_path, dev=True) as client:
        url = f"/v2/my-images/api/blobs/uploads/?digest={EMPTY}"
        answer = await client.post(url, headers={"Origin": origin})
        assert answer.status == 201


async def test_a_refusal_says_why_in_the_format_of_its_api(tmp_path: Path) -> None:
    async with served_app(tmp_path, dev=True) as client:
        answer = await client.get("/v2/", headers={"Host": "example.com"})
        error = (await answer.json())["errors"][0]
        assert (error["code"], "localhost" in error["message"]) == ("DENIED", True)
        answer = await client.get("/v1/registries", headers={"Host": "example.com"})
        assert (await answer.json())["error"]["code"] == "denied"


async def test_credentials_that_match_nothing_are_ignored(tmp_path: Path) -> None:
    async with served_app(tmp_path, dev=True) as client:
        for stale in ("Bearer stale", "Basic c3RhbGU6c3RhbGU="):
            assert (await client.get("/v2/", headers={"Authorization": stale})).status == 200
            assert (await client.get("/v1/registries", headers={"Authorization": stale})).status == 200


async def test_the_first_push_makes_the_registry(tmp_path: Path) -> None:
    async with served_app(tmp_path, dev=True) as client:
        assert (await client.post(f"/v2/my-images/api/blobs/uploads/?digest={EMPTY}")).status == 201
        listed = await (await client.get("/v1/registries")).json()
        assert [registry["name"] for registry in listed["data"]] == ["my-images"]


async def test_a_pull_makes_no_registry(tmp_path: Path) -> None:
    async with served_app(tmp_path, dev=True) as client:
        assert (await client.get("/v2/my-images/api/manifests/v1")).status == 404
        assert (await (await client.get("/v1/registries")).json())["data"] == []


async def test_without_dev_nothing_is_open_and_any_host_may_ask(tmp_path: Path) -> None:
    async with served_app(tmp_path) as client:
        for path in ("/v2/", "/v2/_catalog", "/v2/my-images/api/tags/list", "/v1/registries"):
            answer = await client.get(path, headers={"Host": "registry.example.com"})
            assert answer.status == 401, path
        answer = await client.post(f"/v2/my-images/api/blobs/uploads/?digest={EMPTY}")
        assert answer.status == 401
