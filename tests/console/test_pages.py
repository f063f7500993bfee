"""Every page in real Chromium: readable in light and dark, on a desk and on a phone; its picture is kept."""

from collections.abc import Callable

import pytest

from support.looking import PHONE, Looking, Shots
from support.served import Served
from support.showcase import Gallery

API = {"image": "team/api"}
PAGES = {
    "registry": ("", {}),
    "access": ("access", {}),
    "collection": ("collection", {}),
    "settings": ("settings", {}),
    "audit": ("audit", {}),
    "image": ("image", API),
    "history": ("history", {**API, "tag": "v1.1.0"}),
    "tag": ("manifest", {**API, "ref": "v1.1.0"}),
    "platforms": ("manifest", {**API, "ref": "v1.2.0"}),
    "compare": ("compare", {**API, "platform": ""}),
}
SCHEMES = ("light", "dark")


@pytest.fixture(params=[*SCHEMES, "phone"])
def somebody(request: pytest.FixtureRequest, look: Callable[..., Looking], served: Served) -> Looking:
    """The administrator at each kind of screen; the phone is dark."""
    phone = {"viewport": PHONE, "is_mobile": True, "has_touch": True}
    dark = {"color_scheme": "light" if request.param == "light" else "dark"}
    somebody = look(**dark, **(phone if request.param == "phone" else {}))
    somebody.sign_in(served.admin_token)
    somebody.kind = request.param
    return somebody


def address(gallery: Gallery, name: str) -> str:
    path, query = PAGES[name]
    tags = "&tag=v1.0.0&tag=v1.1.0" if name == "compare" else ""
    return gallery.page(path, **query) + tags


@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_a_registry_is_readable(somebody: Looking, gallery: Gallery, shots: Shots, name: str) -> None:
    somebody.go(address(gallery, name))
    shots.take(somebody, f"{name}-{somebody.kind}")


def test_the_registries_are_readable(somebody: Looking, gallery: Gallery, shots: Shots) -> None:
    somebody.go("/console/")
    somebody.sees(gallery.tenant.name)
    shots.take(somebody, f"registries-{somebody.kind}")


def test_the_activity_is_readable_and_live(somebody: Looking, gallery: Gallery, shots: Shots) -> None:
    somebody.go("/console/activity")
    somebody.page.locator("#state", has_text="live").wait_for()
    shots.take(somebody, f"activity-{somebody.kind}")


def test_the_files_of_a_layer_are_readable(somebody: Looking, gallery: Gallery, shots: Shots) -> None:
    somebody.go(address(gallery, "tag"))
    somebody.page.locator("#layers a").first.click()
    somebody.sees("Largest files")
    shots.take(somebody, f"layer-{somebody.kind}")


def test_passwords_and_a_collection_are_readable(somebody: Looking, gallery: Gallery, shots: Shots) -> None:
    somebody.go(gallery.page("access"))
    somebody.page.get_by_role("button", name="Show the password").first.click()
    somebody.sees("docker login")
    shots.take(somebody, f"credentials-{somebody.kind}")
    somebody.go(gallery.page("collection"))
    somebody.press("Dry run: only say what would go")
    somebody.sees("What would go, and why")
    shots.take(somebody, f"dry-run-{somebody.kind}")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_door_and_a_refusal_are_readable(look: Callable[..., Looking], shots: Shots, scheme: str) -> None:
    somebody = look(color_scheme=scheme)
    somebody.go("/console/")
    shots.take(somebody, f"sign-in-{scheme}")
    somebody.expected.add("404")
    somebody.go("/console/nowhere")
    shots.take(somebody, f"refused-{scheme}")


def test_what_somebody_means_as_a_script_is_only_text(admin: Looking, gallery: Gallery, shots: Shots) -> None:
    """In a config, its history, annotations, labels, and names of files; `complaints` holds what would have run."""
    admin.go(gallery.page("manifest", image="evil", ref="v1"))
    admin.sees("<script>document.title='owned'</script>")
    admin.sees("gpj\\u202etxt.exe")
    shots.take(admin, "hostile-tag-light")
    admin.page.locator("#layers a").first.click()
    admin.sees("leads outside")
    shots.take(admin, "hostile-layer-light")
    admin.follow("etc/")
    admin.sees("new\\nline\\x1b[31m")
    admin.judge()
    for page in ("audit", "collection"):
        admin.go(gallery.page(page))
        admin.judge()
    assert admin.page.locator("main script, main img").count() == 0
