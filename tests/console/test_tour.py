"""What people do with the console, in real Chromium and with a real client beside it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from support.clients import Crane
from support.looking import Looking
from support.served import Account, Served, Tenant, serve
from support.showcase import BASE, SETTINGS, Gallery, Painter, version


@pytest.fixture
def crane(tmp_path: Path) -> Crane:
    return Crane(tmp_path / "crane")


@pytest.fixture
def painter(tmp_path: Path) -> Painter:
    return Painter(tmp_path / "layouts")


@pytest.fixture
def tenant(served: Served, crane: Crane, request: pytest.FixtureRequest) -> Tenant:
    """A registry of the test's own, to which the client is logged in."""
    tenant = served.create_registry(request.node.name.removeprefix("test_").replace("_", "-")[:40].strip("-"))
    crane.login(tenant.robot).check()
    return tenant


def page(tenant: Tenant, path: str = "", query: str = "") -> str:
    return f"/console/registries/{tenant.id}{'/' + path if path else ''}{'?' + query if query else ''}"


def test_somebody_signs_in_makes_a_registry_pushes_and_finds_the_image(
    look: Callable[..., Looking], served: Served, crane: Crane, painter: Painter
) -> None:
    somebody = look()
    somebody.expected.add("403")
    somebody.allow_copying()
    somebody.go("/")
    somebody.page.get_by_label("Token").fill("rsv_wrong")
    somebody.press("Sign in")
    somebody.sees("This token opens nothing here")
    somebody.sign_in(served.admin_token)
    somebody.page.get_by_label("Name").fill("first-steps")
    somebody.page.get_by_label("Quota in GiB").fill("0.5")
    somebody.press("Create")
    somebody.sees("No image yet")
    somebody.sees(f"docker login {served.host} -u 'robot$first-steps'")
    somebody.page.get_by_role("navigation", name="Registry").get_by_text("Access").click()
    somebody.press("Show the password of robot$first-steps")
    account = Account(
        somebody.page.locator("#username").inner_text(), somebody.page.locator("#password").inner_text(), served.host
    )
    somebody.page.locator(".command .copy").click()
    assert somebody.copied == (
        f"echo '{account.password}' | docker login {served.host} -u 'robot$first-steps' --password-stdin"
    )
    crane.login(account).check()
    crane.push(painter.image(version("1", 90_000), config=SETTINGS), f"{served.host}/first-steps/team/api:v1").check()
    somebody.follow("Images")
    somebody.follow("team/api")
    somebody.page.get_by_role("button", name="Copy the command").first.click()
    assert somebody.copied == f"docker pull {served.host}/first-steps/team/api:v1"
    somebody.sees("Copied")
    somebody.follow("v1")
    somebody.sees("RUN apk add --no-cache python3 ca-certificates")
    somebody.sees("/app/bin/serve")


@pytest.mark.parametrize(
    ("place", "folder", "file"), [(0, "bin/", "busybox"), (1, "usr/", "bin/"), (2, "app/", "version.txt")]
)
def test_files_of_a_layer_can_be_browsed_and_found(
    admin: Looking, gallery: Gallery, place: int, folder: str, file: str
) -> None:
    """gzip, zstd, gzip."""
    admin.go(gallery.page("manifest", image="team/api", ref="v1.1.0"))
    admin.page.locator("#layers a").nth(place).click()
    admin.follow(folder)
    admin.sees(file)
    admin.page.get_by_role("searchbox").press_sequentially(file.strip("/")[:4])
    admin.page.locator("th", has_text="Found").wait_for()
    assert admin.row(file).count() >= 1


def test_two_tags_are_picked_and_compared(admin: Looking, gallery: Gallery) -> None:
    admin.go(gallery.page("image", image="team/api"))
    for tag in ("v1.1.0", "v1.2.0", "v1.0.0"):  # the third one takes the place of one of the others
        admin.page.get_by_label(f"Compare {tag}").check()
    admin.press("Compare v1.1.0 and v1.0.0")
    assert admin.page.locator("h1").inner_text() == "v1.0.0 → v1.1.0"  # the older one first
    admin.sees("config.User")
    assert admin.row("app/changed").get_by_text("added").count() == 1
    assert admin.row("app/version.txt").get_by_text("changed").count() == 1
    assert admin.page.get_by_text("both", exact=True).count() == 2


def test_tags_are_sorted_and_found(admin: Looking, gallery: Gallery) -> None:
    admin.go(gallery.page("image", image="team/api"))
    for title, first in (("Tag", "v1.2.0"), ("Size", "v1.1.0"), ("Platforms", "v1.2.0"), ("Pushed", "v1.2.0")):
        admin.page.locator("th a", has_text=title).click()
        admin.page.locator("th[aria-sort=descending]", has_text=title).wait_for()
        assert admin.page.locator("tbody .name").first.inner_text() == first, title
    admin.page.get_by_role("searchbox").press_sequentially("1.1")
    admin.row("v1.0.0").wait_for(state="detached")
    assert admin.page.locator("tbody .name").all_inner_texts() == ["v1.1.0"]


def test_referrers_are_shown_as_a_tree(admin: Looking, gallery: Gallery) -> None:
    admin.go(gallery.page("manifest", image="team/api", ref="v1.1.0"))
    assert admin.page.locator("#referrers > .tree > li").count() == 2
    nested = admin.page.locator("#referrers .tree .tree")
    assert nested.inner_text().startswith("Signature")
    nested.get_by_role("link").click()
    admin.sees("Annotations")


def test_a_deleted_tag_comes_back_by_undo_and_from_its_history(
    admin: Looking, tenant: Tenant, crane: Crane, painter: Painter
) -> None:
    for number in ("1", "2"):
        crane.push(painter.image(version(number, 9000)), tenant.image("api", "v1")).check()
    admin.go(page(tenant, "manifest", "image=api&ref=v1"))
    digest = admin.page.locator("code.long").inner_text()
    admin.press("Delete the tag")
    admin.sees("No image yet")
    admin.press("Undo")
    admin.sees("The tag names again what it named before.")
    admin.follow("v1")
    assert admin.page.locator("code.long").inner_text() == digest
    admin.follow("History and undo")
    admin.page.get_by_role("button", name="Go back to this").last.click()
    admin.follow("v1")
    assert admin.page.locator("code.long").inner_text() != digest
    admin.follow("api")
    admin.press("Delete all tags")
    admin.press("Undo")
    admin.sees("The tags that the deletion took are back.")


def test_a_collection_is_tried_run_and_explained(
    admin: Looking, tenant: Tenant, crane: Crane, painter: Painter
) -> None:
    kept, gone = painter.image([BASE]), painter.image(version("gone", 600_000))
    crane.push(kept, tenant.image("kept", "v1")).check()
    crane.push(gone, tenant.image("gone", "v1")).check()
    admin.go(page(tenant, "manifest", "image=gone&ref=v1"))
    admin.press("Delete the tag")
    admin.go(page(tenant, "collection"))
    admin.sees("None yet.")
    admin.press("Dry run: only say what would go")
    admin.sees("no tag reaches it, no lease and no window holds it")
    admin.press("Collect now")
    admin.page.locator("#job .badge", has_text="completed").wait_for()
    figures = admin.page.locator("#job dd").all_inner_texts()
    assert int(figures[1]) >= 2, "the layer and the config that no other image has"
    assert figures[2] == "1"
    admin.page.get_by_label("Digest of a blob or a manifest").fill(kept.layers[0])
    admin.press("Explain")
    admin.sees("a tag leads to it")
    assert admin.page.locator(".chain li").all_inner_texts()[:2] == ["kept", "v1"]


def test_a_rotated_password_is_dead_or_lives_on_for_a_while(admin: Looking, tenant: Tenant, crane: Crane) -> None:
    def rotate(choice: str) -> Account:
        admin.go(page(tenant, "access"))
        admin.page.locator("summary", has_text="Rotate").first.click()
        admin.page.get_by_label("The password from now").select_option(label=choice)
        admin.press("Rotate")
        admin.sees("New password of")
        return Account(tenant.robot.username, admin.page.locator("#password").inner_text(), tenant.robot.host)

    second = rotate("is dead at once")
    assert not crane.run("ls", f"{tenant.robot.host}/{tenant.name}/x").ok
    crane.login(second).check()
    third = rotate("lives on for an hour")
    admin.sees("The password from before is good until")
    assert second.password != third.password
    for account in (second, third):
        answer = crane.login(account)
        assert answer.ok, answer.output


def test_a_robot_of_fewer_rights_is_made_and_deleted(admin: Looking, tenant: Tenant) -> None:
    admin.go(page(tenant, "access"))
    admin.page.get_by_label("Name").fill("cluster")
    admin.page.get_by_label("May").select_option("pull")
    admin.page.get_by_label("Images").fill("team/*")
    admin.page.get_by_label("Ends after days").fill("30")
    admin.press("Create")
    row = admin.row(f"robot${tenant.name}+cluster")
    assert "pull" in row.inner_text() and "push" not in row.inner_text()
    row.locator("summary", has_text="Delete").click()
    row.get_by_role("button", name="Delete", exact=True).click()
    admin.sees("The robot is deleted")
    assert admin.row("+cluster").count() == 0


def test_a_policy_is_tried_before_it_is_saved(admin: Looking, tenant: Tenant, crane: Crane, painter: Painter) -> None:
    layout = painter.image([BASE])
    for tag in ("v1", "v2", "nightly"):
        crane.push(layout, tenant.image("api", tag)).check()
    admin.go(page(tenant, "settings"))
    admin.page.get_by_label("Tags that match", exact=True).fill("v1")
    admin.page.get_by_label("Keep the last").fill("1")
    admin.press("Try it")
    admin.sees("What this would do now")
    assert "goes" in admin.row("api:v2").inner_text()
    assert "immutable" in admin.row("api:v1").inner_text()
    admin.page.locator("form", has_text="Tags that cannot move").get_by_role("button", name="Save").click()
    admin.sees("Saved.")
    assert admin.page.get_by_label("Keep the last").input_value() == "1"
    admin.expected.add("403")
    admin.go(page(tenant, "manifest", "image=api&ref=v1"))
    admin.press("Delete the tag")
    admin.sees("immutable")


def test_a_push_is_seen_as_it_happens(admin: Looking, tenant: Tenant, crane: Crane, painter: Painter) -> None:
    admin.go("/console/activity")
    admin.page.locator("#state", has_text="live").wait_for()
    crane.push(painter.image([BASE]), tenant.image("seen", "v9")).check()
    line = admin.page.locator("#feed li.fresh", has_text=f"{tenant.name}/seen:v9")
    line.wait_for()
    assert "pushed" in line.inner_text()
    admin.judge()
    line.get_by_role("link").click()
    admin.sees("seen:v9")


def test_the_keyboard_reaches_everything(admin: Looking, gallery: Gallery) -> None:
    admin.go(gallery.page("image", image="team/api"))
    admin.page.keyboard.press("Tab")
    assert admin.page.evaluate("document.activeElement.textContent") == "Skip to content"
    admin.page.keyboard.press("Enter")
    assert admin.page.evaluate("document.activeElement.id") == "main"
    admin.page.keyboard.press("/")
    assert admin.page.evaluate("document.activeElement.name") == "q"
    admin.go(gallery.page("access"))
    admin.page.locator("summary", has_text="Rotate").first.press("Enter")
    admin.page.get_by_label("The password from now").wait_for()
    admin.page.keyboard.press("Escape")
    admin.page.get_by_label("The password from now").wait_for(state="hidden")


def test_who_signs_out_is_out(admin: Looking, gallery: Gallery) -> None:
    admin.go(gallery.page())
    admin.press("Sign out")
    admin.page.get_by_label("Token").wait_for()
    admin.go(gallery.page())
    assert "/sign-in" in admin.page.url


def test_a_server_for_development_is_open_and_teaches_the_first_push(
    look: Callable[..., Looking], tmp_path: Path, crane: Crane, painter: Painter
) -> None:
    with serve(tmp_path / "dev", "--dev") as dev:
        somebody = look(dev)
        somebody.go("/")
        somebody.sees("No registry yet")
        somebody.sees(f"docker push {dev.host}/my-images/hello:v1")
        crane.push(painter.image([BASE]), f"{dev.host}/my-images/hello:v1").check()
        somebody.go("/console/")
        somebody.follow("my-images")
        somebody.follow("hello")
        somebody.sees("v1")
