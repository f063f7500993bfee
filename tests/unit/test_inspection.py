"""What a config claims is taken only where it has the shape that it should have."""

import pytest

from regserver.console.rendering import ago, short, size, visible
from regserver.content.inspection import children, command, notes, platform_of, settings, steps
from regserver.model.times import now_ms

LAYERS = [{"digest": "sha256:1", "size": 1}, {"digest": "sha256:2", "size": 2}]


@pytest.mark.parametrize(
    ("created_by", "shown"),
    [
        ('/bin/sh -c #(nop)  CMD ["sh"]', 'CMD ["sh"]'),
        ("/bin/sh -c apk add x", "RUN apk add x"),
        ("RUN /bin/sh -c apk add x # buildkit", "RUN apk add x"),
        ("COPY a b # buildkit", "COPY a b"),
        ("", ""),
    ],
)
def test_a_command_is_shown_as_it_was_written(created_by: str, shown: str) -> None:
    assert command(created_by) == shown


def test_each_layer_has_the_command_that_made_it() -> None:
    history = [{"created_by": "a"}, {"created_by": "b", "empty_layer": True}, {"created_by": "c"}]
    found = [(one.command, one.layer and one.layer["size"]) for one in steps(LAYERS, {"history": history})]
    assert found == [("a", 1), ("b", None), ("c", 2)]


@pytest.mark.parametrize("history", [None, [], [{"created_by": "a"}], "text", [1, 2, 3], {"a": 1}])
def test_a_history_that_does_not_fit_is_not_believed(history: object) -> None:
    assert [one.command for one in steps(LAYERS, {"history": history})] == ["", ""]


@pytest.mark.parametrize(
    "config", [None, {}, {"config": 7}, {"config": {"Env": 7, "Labels": [1, {}], "User": {}, "Cmd": ""}}]
)
def test_settings_of_any_shape_are_survived(config: dict[str, object] | None) -> None:
    assert settings(config) == [] or all(lines == [] for _, lines in settings(config))


def test_an_attestation_stands_behind_the_images_of_an_index() -> None:
    about = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": "sha256:2"}
    entries = [
        {
            "digest": "sha256:1",
            "size": 1,
            "annotations": about,
            "platform": {"os": "unknown", "architecture": "unknown"},
        },
        {"digest": "sha256:2", "size": 2, "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}},
        {"digest": "sha256:3", "size": 3, "platform": 7, "annotations": "x"},
    ]
    found = [(one.digest, one.platform, one.about) for one in children({"manifests": entries})]
    assert found == [
        ("sha256:2", "linux/arm64/v8", None),
        ("sha256:3", None, None),
        ("sha256:1", "unknown/unknown", "sha256:2"),
    ]
    assert platform_of({"os": 7, "architecture": "amd64"}) == "amd64"
    assert notes({"annotations": {"a": "b", "c": 1}}) == {"a": "b"}


def test_text_that_a_browser_would_obey_is_written_out() -> None:
    assert visible("plain\nlines") == "plain\nlines"
    assert visible("a\u202eb\x1b[0m\ud800") == "a\\u202eb\\x1b[0m\\ud800"


def test_figures_are_made_for_people() -> None:
    assert [size(count) for count in (None, 0, 1023, 1024, 1_572_864, 2**40 - 1)] == [
        "–", "0 B", "1023 B", "1.0 KiB", "1.5 MiB", "1.0 TiB",
    ]  # fmt: skip
    now = now_ms()
    assert [ago(None), ago(now), ago(now - 61_000), ago(now - 3 * 86_400_000)] == [
        "never", "just now", "1 minute ago", "3 days ago",
    ]  # fmt: skip
    assert short("sha256:" + "ab" * 32) == "abababababab"
