"""A quota: a warning when it is nearly used up, a refusal with the figures beyond, and nothing stored then."""

import pytest

from support.pushing import Registry, digest_of, make_content, push_blob, push_image, put_manifest, start_upload

UPLOADS = "/v2/one/app/blobs/uploads/"


@pytest.fixture
async def robot(guarded: Registry) -> Registry:
    return guarded.seen_by(await guarded.make_robot("one", quota_bytes=100_000))


async def test_every_answer_to_a_push_warns_above_nine_tenths(robot: Registry) -> None:
    image = await push_image(robot, "one/app", "v1")
    below = await robot.send("POST", UPLOADS)
    assert "Warning" not in below.headers
    content = make_content(95_000)
    digest = digest_of(content)
    put = await robot.send("POST", UPLOADS, query={"digest": digest}, data=content)
    started = await robot.send("POST", UPLOADS)
    finished = await robot.send("PUT", started.headers["Location"], query={"digest": digest_of(b"x")}, data=b"x")
    mounted = await robot.send("POST", "/v2/one/other/blobs/uploads/", query={"mount": digest, "from": "one/app"})
    tagged = await put_manifest(robot, "one/app", "v2", image.content)
    assert [answer.status for answer in (put, started, finished, mounted, tagged)] == [201, 202, 201, 201, 201]
    for answer in (put, started, finished, mounted, tagged):
        assert answer.headers["Warning"].startswith('299 - "')
        assert "100000" in answer.headers["Warning"]


@pytest.mark.parametrize("way", ["post", "put", "patch"])
async def test_what_passes_the_quota_is_refused_with_the_figures_and_not_stored(robot: Registry, way: str) -> None:
    await push_blob(robot, "one/app", make_content(60_000))
    content = make_content(50_000)
    query = {"digest": digest_of(content)}
    if way == "post":
        answer = await robot.send("POST", UPLOADS, query=query, data=content)
    else:
        location = await start_upload(robot, "one/app")
        answer = await robot.send(way.upper(), location, query=query, data=content)
    assert answer.refusal == (403, "DENIED")
    detail = answer.json["errors"][0]["detail"]
    assert (detail["used_bytes"], detail["limit_bytes"]) == (60_000, 100_000)
    assert (await robot.send("GET", f"/v2/one/app/blobs/{digest_of(content)}")).status == 404


async def test_a_body_of_unknown_length_is_cut_off_at_the_quota(robot: Registry) -> None:
    async def endless():  # type: ignore[no-untyped-def]
        while True:
            yield bytes(10_000)

    location = await start_upload(robot, "one/app")
    answer = await robot.send("PATCH", location, data=endless())
    assert answer.refusal == (403, "DENIED")
