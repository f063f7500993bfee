"""`--database`: a served registry whose catalog is on a PostgreSQL server, as an operator meets it."""

import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from regserver.app import DATABASE
from support import postgres
from support.pushing import OCTETS, digest_of
from support.registry import ADMIN_HEADERS, ADMIN_TOKEN, clean_environment, fail_to_serve, served_process

CONTENT = b"a layer"
BLOB = f"/v2/my/api/blobs/{digest_of(CONTENT)}"
UPLOAD = f"/v2/my/api/blobs/uploads/?digest={digest_of(CONTENT)}"


@pytest.fixture
def url() -> str:
    return postgres.server().new_schema()


async def push_and_pull(address: str) -> None:
    async with aiohttp.ClientSession(address) as session:
        async with session.post(UPLOAD, data=CONTENT, headers={"Content-Type": OCTETS}) as pushed:
            assert pushed.status == 201, await pushed.text()
        await pull(address)


async def pull(address: str) -> None:
    async with aiohttp.ClientSession(address) as session, session.get(BLOB) as pulled:
        assert (pulled.status, await pulled.read()) == (200, CONTENT)


def run(root: Path, url: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "regserver", *words, "--root", str(root), "--database", url]
    return subprocess.run(command, capture_output=True, text=True, env=clean_environment())


async def test_a_registry_keeps_its_catalog_there_from_one_start_to_the_next(tmp_path: Path, url: str) -> None:
    root, environment = tmp_path / "root", {"REGSERVER_DATABASE": url}
    with served_process(root, "--dev", environment=environment) as server:
        await push_and_pull(server.url)
    with served_process(root, "--dev", environment=environment) as server:
        await pull(server.url)
        assert postgres.PASSWORD not in server.output
    assert not (root / DATABASE).exists()


async def test_neither_log_nor_answer_tells_the_password_when_the_server_goes_away(tmp_path: Path) -> None:
    server = postgres.Server()
    try:
        environment = {"REGSERVER_DATABASE": server.url(), "REGSERVER_ADMIN_TOKEN": ADMIN_TOKEN}
        with served_process(tmp_path / "root", environment=environment) as served:
            server.stop("immediate")
            async with aiohttp.ClientSession(served.url) as session:
                async with session.get("/v1/registries", headers=ADMIN_HEADERS) as refused:
                    assert refused.status == 503
                    told = await refused.text()
                async with session.get("/readyz") as ready:
                    assert (ready.status, (await ready.json())["reasons"]) == (503, ["the catalog does not commit"])
                server.start()
                async with session.get("/v1/registries", headers=ADMIN_HEADERS) as listed:
                    assert listed.status == 200
            assert "storage failed" in served.messages
            assert postgres.PASSWORD not in served.output + told
    finally:
        server.remove()


def test_a_server_that_is_not_there_is_one_line_without_the_password(tmp_path: Path, url: str) -> None:
    code, error = fail_to_serve(tmp_path / "root", "--database", url.replace("host=", "host=/nowhere"))
    assert (code, error.count("\n")) == (1, 1)
    assert "PostgreSQL server cannot be reached" in error
    assert postgres.PASSWORD not in error


def test_a_url_that_the_driver_cannot_use_is_one_line_without_the_password(tmp_path: Path) -> None:
    code, error = fail_to_serve(tmp_path / "root", "--database", f"{postgres.server().url()}&sslmode=perhaps")
    assert (code, error.count("\n")) == (1, 1)
    assert "--database" in error
    assert postgres.PASSWORD not in error


def test_without_the_driver_it_says_how_to_get_it(tmp_path: Path, url: str) -> None:
    (tmp_path / "asyncpg.py").write_text("raise ImportError('not installed')\n")
    environment = {"PYTHONPATH": f"{tmp_path}:{':'.join(sys.path)}"}
    code, error = fail_to_serve(tmp_path / "root", "--database", url, environment=environment)
    assert (code, error) == (2, "regserver: --database needs a driver: pip install 'regserver[postgres]'\n")


async def test_a_folder_of_another_catalog_is_refused_and_loses_nothing(tmp_path: Path, url: str) -> None:
    root = tmp_path / "root"
    with served_process(root, "--dev") as server:
        await push_and_pull(server.url)
    code, error = fail_to_serve(root, "--dev", "--database", url)
    assert (code, error.count("\n")) == (1, 1)
    assert "holds the blobs of another catalog" in error
    with served_process(root, "--dev") as server:
        await pull(server.url)


async def test_a_folder_whose_catalog_is_on_a_server_does_not_get_a_new_one_beside_it(tmp_path: Path, url: str) -> None:
    root = tmp_path / "root"
    with served_process(root, "--dev", environment={"REGSERVER_DATABASE": url}) as server:
        await push_and_pull(server.url)
    code, error = fail_to_serve(root, "--dev")
    assert code == 1
    assert "--database" in error
    with served_process(root, "--dev", environment={"REGSERVER_DATABASE": url}) as server:
        await pull(server.url)


def test_migrate_and_rotate_work_there_too(tmp_path: Path, url: str) -> None:
    root = tmp_path / "root"
    assert run(root, url, "migrate").stdout.startswith("applied 0001_initial\n")
    assert run(root, url, "migrate").stdout == ""
    missing = run(root, url, "keys", "rotate")
    assert (missing.returncode, "there is no registry in this folder" in missing.stderr) == (2, True)
    with served_process(root, environment={"REGSERVER_DATABASE": url}):
        pass
    assert "signs from now on" in run(root, url, "keys", "rotate").stdout
    elsewhere = run(root, postgres.server().new_schema(), "keys", "rotate")
    assert (elsewhere.returncode, "belongs to another catalog" in elsewhere.stderr) == (1, True)
