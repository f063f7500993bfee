"""``regserver robots``: made, used, changed and ended over the command line."""

from pathlib import Path

from aiohttp import encode_basic_auth

from support.managing import make_registry
from support.pushing import Registry, push_image
from support.robots import pulled
from support.shell import shell_for


async def test_a_robot_is_made_used_changed_and_deleted(guarded: Registry, tmp_path: Path) -> None:
    shell = shell_for(guarded.client, tmp_path / "home")
    await make_registry(guarded, "mine")
    for image in ("team/api", "web"):
        await push_image(guarded, f"mine/{image}", "v1")
    rights = ("--actions", "pull,push", "--images", "team/*", "--expires", "90d")
    made = (await shell.succeed("robots", "create", "mine", "ci", *rights, "--json")).json
    comer = guarded.seen_by(encode_basic_auth(made["username"], made["password"]))
    assert [await pulled(comer, f"mine/{image}") for image in ("team/api", "web")] == [200, 401]
    changed = (
        await shell.succeed("robots", "update", "mine", "ci", "--all-images", "--expires", "never", "--json")
    ).json
    assert (changed["images"], changed["expires_at"], changed["actions"]) == (None, None, ["pull", "push"])
    assert await pulled(comer, "mine/web") == 200
    listed = (await shell.succeed("robots", "list", "mine", "--json")).json
    assert [row["username"] for row in listed] == ["robot$mine", "robot$mine+ci"]
    rotated = (await shell.succeed("robots", "rotate", "mine", "ci", "--yes", "--json")).json
    assert rotated["password"] != made["password"]
    assert await pulled(comer, "mine/web") == 401
    await shell.succeed("robots", "delete", "mine", "ci", "--yes")
    assert (await shell.run("robots", "show", "mine", "ci")).code == 3
