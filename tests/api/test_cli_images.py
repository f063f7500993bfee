"""``regserver images``, ``tags`` and ``gc``."""

from pathlib import Path

import pytest

from support.managing import call, make_registry
from support.pushing import Registry, push_image
from support.shell import Shell, shell_for

RESTORED = "restored: "


@pytest.fixture
async def registry_id(guarded: Registry) -> str:
    """Of a registry that holds `team/api` with `v1` and `latest`."""
    found = await make_registry(guarded, "mine")
    await push_image(guarded, "mine/team/api", "v1")
    await push_image(guarded, "mine/team/api", "latest")
    return found


@pytest.fixture
def shell(guarded: Registry, tmp_path: Path) -> Shell:
    return shell_for(guarded.client, tmp_path / "home")


async def names(guarded: Registry, registry_id: str) -> list[str]:
    answer = await call(guarded, "GET", f"/registries/{registry_id}/images/team%2Fapi/tags")
    return [row["name"] for row in answer.json["data"]]


async def test_images_and_tags_are_listed_and_shown(guarded: Registry, shell: Shell, registry_id: str) -> None:
    path = f"/registries/{registry_id}/images"
    for command, query in (
        (["images", "list", "mine"], path),
        (["images", "show", "mine/team/api"], f"{path}/team%2Fapi"),
        (["tags", "list", "mine/team/api"], f"{path}/team%2Fapi/tags"),
        (["tags", "show", "mine/team/api:v1"], f"{path}/team%2Fapi/tags/v1"),
        (["tags", "history", "mine/team/api:v1"], f"{path}/team%2Fapi/tags/v1/history"),
    ):
        expected = (await call(guarded, "GET", query)).json["data"]
        assert (await shell.succeed(*command, "--json")).json == expected
        assert (await shell.succeed(*command)).out


async def test_a_table_shortens_digests_unless_it_may_not(guarded: Registry, shell: Shell, registry_id: str) -> None:
    path = f"/registries/{registry_id}/images/team%2Fapi/tags/v1"
    digest = (await call(guarded, "GET", path)).json["data"]["digest"]
    out = (await shell.succeed("tags", "list", "mine/team/api")).out
    assert digest[:19] in out
    assert digest not in out
    assert digest in (await shell.succeed("tags", "list", "mine/team/api", "--no-trunc")).out


async def test_an_image_with_tags_in_its_name_is_meant_exactly(guarded: Registry, shell: Shell) -> None:
    await make_registry(guarded, "mine")
    pushed = await push_image(guarded, "mine/a/tags/b", "v1")
    assert (await shell.succeed("tags", "show", "mine/a/tags/b:v1", "--json")).json["digest"] == pushed.digest
    await shell.succeed("tags", "delete", "mine/a/tags/b:v1", "--yes")
    assert (await shell.run("tags", "show", "mine/a/tags/b:v1")).code == 3


async def test_a_deleted_tag_is_restored(guarded: Registry, shell: Shell, registry_id: str) -> None:
    assert (await shell.run("tags", "delete", "mine/team/api:v1")).code == 2
    assert await names(guarded, registry_id) == ["latest", "v1"]
    await shell.succeed("tags", "delete", "mine/team/api:v1", "--yes")
    assert await names(guarded, registry_id) == ["latest"]
    await shell.succeed("tags", "restore", "mine/team/api:v1")
    assert await names(guarded, registry_id) == ["latest", "v1"]


async def test_a_tag_that_moves_while_the_person_thinks_is_not_deleted(
    guarded: Registry, shell: Shell, registry_id: str
) -> None:
    path = f"/registries/{registry_id}/images/team%2Fapi/tags/v1"
    seen = (await call(guarded, "GET", path)).json["data"]["digest"]
    await push_image(guarded, "mine/team/api", "v1")
    ended = await shell.run("tags", "delete", "mine/team/api:v1", "--digest", seen, "--yes")
    assert (ended.code, "look at it again" in ended.err) == (5, True)
    assert await names(guarded, registry_id) == ["latest", "v1"]


async def test_a_tag_is_deleted_as_it_was_shown(guarded: Registry, shell: Shell, registry_id: str) -> None:
    path = f"/registries/{registry_id}/images/team%2Fapi/tags/v1"
    digest = (await call(guarded, "GET", path)).json["data"]["digest"]
    ended = await shell.type("tags", "delete", "mine/team/api:v1", answers=[("[y/N]", "yes")])
    assert ended.code == 0, ended
    assert digest[:19] in ended.out
    assert await names(guarded, registry_id) == ["latest"]


async def test_a_moved_tag_goes_back_to_a_digest_of_its_history(
    guarded: Registry, shell: Shell, registry_id: str
) -> None:
    path = f"/registries/{registry_id}/images/team%2Fapi/tags/v1"
    before = (await call(guarded, "GET", path)).json["data"]["digest"]
    await push_image(guarded, "mine/team/api", "v1")
    ended = await shell.succeed("tags", "restore", "mine/team/api:v1", "--digest", before, "--json")
    assert ended.json["digest"] == before
    assert (await call(guarded, "GET", path)).json["data"]["digest"] == before


async def test_a_deleted_image_is_restored(guarded: Registry, shell: Shell, registry_id: str) -> None:
    assert (await shell.run("images", "delete", "mine/team/api")).code == 2
    await shell.succeed("images", "delete", "mine/team/api", "--yes")
    assert (await shell.succeed("images", "list", "mine", "--json")).json == []
    ended = await shell.succeed("images", "restore", "mine/team/api")
    assert ended.out.startswith(RESTORED)
    assert await names(guarded, registry_id) == ["latest", "v1"]


async def test_gc_run_ends_with_the_collection(guarded: Registry, shell: Shell, registry_id: str) -> None:
    ended = await shell.succeed("gc", "run", "mine", "--json")
    assert (ended.json["status"], ended.err) == ("completed", "")
    job = await call(guarded, "GET", f"/registries/{registry_id}/gc/{ended.json['job_id']}")
    assert ended.json == job.json["data"]
    assert (await shell.succeed("gc", "status", "mine", "--json")).json == ended.json
    assert (await shell.succeed("gc", "status", "mine", ended.json["job_id"], "--json")).json == ended.json
    assert (await shell.succeed("gc", "list", "mine", "--json")).json == [ended.json]


async def test_gc_run_shows_a_bar_on_a_terminal(shell: Shell, registry_id: str) -> None:
    ended = await shell.type("gc", "run", "mine")
    assert ended.code == 0
    assert "\x1b[?25l" in ended.out  # the bar hides the cursor, and
    assert "\x1b[?25h" in ended.out  # shows it again
    assert "Status     completed" in ended.out


async def test_gc_run_may_come_back_at_once(shell: Shell, registry_id: str) -> None:
    ended = await shell.succeed("gc", "run", "mine", "--no-wait", "--json")
    assert set(ended.json) == {"job_id", "status", "started_at"}
    assert ended.json["status"] == "running"


async def test_a_dry_run_shows_its_report_and_changes_nothing(
    guarded: Registry, shell: Shell, registry_id: str
) -> None:
    ended = await shell.succeed("gc", "dry-run", "mine")
    assert "nothing was done" in ended.err
    job = (await call(guarded, "GET", f"/registries/{registry_id}/gc")).json["data"][0]
    assert job["dry_run"] is True
    report = await call(guarded, "GET", f"/registries/{registry_id}/gc/{job['job_id']}/report")
    assert (await shell.succeed("gc", "dry-run", "mine", "--json")).json == report.json["data"]


async def test_gc_explains_what_keeps_a_digest(guarded: Registry, shell: Shell, registry_id: str) -> None:
    path = f"/registries/{registry_id}/images/team%2Fapi/tags/v1"
    digest = (await call(guarded, "GET", path)).json["data"]["digest"]
    ended = await shell.succeed("gc", "explain", "mine", digest)
    assert "tag" in ended.out
    shown = await call(guarded, "GET", f"/registries/{registry_id}/explain/{digest}")
    assert (await shell.succeed("gc", "explain", "mine", digest, "--json")).json == shown.json["data"]


async def test_gc_of_what_is_not_there_ends_with_3(shell: Shell, registry_id: str) -> None:
    ended = await shell.run("gc", "status", "mine")
    assert (ended.code, "gc run mine" in ended.err) == (3, True)
    ended = await shell.run("gc", "explain", "mine", "sha256:" + "0" * 64)
    assert (ended.code, "0" * 64 in ended.err) == (3, True)
