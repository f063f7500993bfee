"""A quota: a warning when it is nearly used up, a refusal with the figures beyond, and nothing stored then."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from support.managing import call, collect, services_of
from support.pushing import (
    Answer,
    Registry,
    digest_of,
    draw_token,
    id_of,
    make_content,
    make_image,
    push_blob,
    push_image,
    put_manifest,
    start_upload,
)

UPLOADS = "/v2/one/app/blobs/uploads/"
QUOTA = 100_000
RACERS = 64


@pytest.fixture
async def robot(guarded: Registry) -> Registry:
    return guarded.seen_by(await guarded.make_robot("one", quota_bytes=QUOTA))


async def put_whole(robot: Registry, content: bytes, image: str = "app") -> Answer:
    uploads = f"/v2/one/{image}/blobs/uploads/"
    return await robot.send("POST", uploads, query={"digest": digest_of(content)}, data=content)


async def push(robot: Registry, way: str, content: bytes, image: str = "app") -> Answer:
    """The answer that a blob gets which arrives in one of the three ways: the refusal, or the last one."""
    if way == "post":
        return await put_whole(robot, content, image)
    location = await start_upload(robot, f"one/{image}")
    digest = {"digest": digest_of(content)}
    if way == "put":
        return await robot.send("PUT", location, query=digest, data=content)
    sent = await robot.send("PATCH", location, data=content)
    return sent if sent.status != 202 else await robot.send("PUT", sent.headers["Location"], query=digest)


async def used(robot: Registry) -> int:
    """As the management API shows it; it must be what the catalog holds."""
    core, registry_id = services_of(robot).core, await id_of(robot, "one")
    (counter,) = (await core.db.fetch("SELECT used_bytes FROM registries WHERE id = $1", registry_id))[0]
    (blobs,) = (
        await core.db.fetch(
            "SELECT COALESCE(SUM(size), 0) FROM blobs"
            " WHERE digest IN (SELECT digest FROM repository_blobs WHERE registry_id = $1)",
            registry_id,
        )
    )[0]
    (manifests,) = (
        await core.db.fetch(
            "SELECT COALESCE(SUM(m.size), 0) FROM manifests AS m JOIN repositories AS r ON r.id = m.repository_id"
            " WHERE r.registry_id = $1",
            registry_id,
        )
    )[0]
    assert counter == blobs + manifests
    return int(counter)


def refused_with(answer: Answer, used_bytes: int, needed_bytes: int) -> None:
    """As docker prints it: "denied: …", the message of the one error."""
    assert answer.refusal == (403, "DENIED")
    (error,) = answer.json["errors"]
    assert error["message"] == (
        f"quota exceeded: {used_bytes} of {QUOTA} bytes are used and {needed_bytes} more are needed"
    )
    figures = {"used_bytes": used_bytes, "limit_bytes": QUOTA, "needed_bytes": needed_bytes}
    assert error["detail"] == {"reason": "quota", **figures}


async def test_every_answer_to_a_push_warns_above_nine_tenths(robot: Registry) -> None:
    image = await push_image(robot, "one/app", "v1")
    below = await robot.send("POST", UPLOADS)
    assert "Warning" not in below.headers
    content = make_content(95_000)
    digest = digest_of(content)
    put = await put_whole(robot, content)
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
    location = await start_upload(robot, "one/app")
    if way == "post":
        answer = await put_whole(robot, content)
    else:
        answer = await robot.send(way.upper(), location, query={"digest": digest_of(content)}, data=content)
    refused_with(answer, 60_000, 50_000)
    assert (await robot.send("GET", f"/v2/one/app/blobs/{digest_of(content)}")).status == 404
    assert await used(robot) == 60_000


@pytest.mark.parametrize("way", ["post", "put", "patch"])
async def test_the_last_byte_fits_and_one_more_does_not(robot: Registry, way: str) -> None:
    await push_blob(robot, "one/app", make_content(60_000))
    refused_with(await push(robot, way, make_content(40_001)), 60_000, 40_001)
    assert (await push(robot, way, make_content(40_000))).status == 201
    assert await used(robot) == QUOTA


async def test_a_full_registry_opens_no_session(robot: Registry) -> None:
    open_before = await start_upload(robot, "one/app")
    await push_blob(robot, "one/app", make_content(QUOTA))
    refused_with(await robot.send("POST", UPLOADS), QUOTA, 1)
    refused_with(await robot.send("POST", UPLOADS, query={"mount": digest_of(b"unknown"), "from": "one/x"}), QUOTA, 1)
    refused_with(await robot.send("PATCH", open_before, data=b"x"), QUOTA, 1)
    refused_with(await put_whole(robot, b"x"), QUOTA, 1)


async def test_a_manifest_beyond_the_quota_is_refused_and_leaves_no_tag(robot: Registry) -> None:
    document = await make_image(robot, "one/app")
    await push_blob(robot, "one/app", make_content(QUOTA - await used(robot)))
    answer = await put_manifest(robot, "one/app", "v1", document)
    assert answer.refusal == (403, "DENIED")
    assert (await robot.send("GET", "/v2/one/app/manifests/v1")).status == 404
    assert await used(robot) == QUOTA


async def test_a_body_of_unknown_length_is_cut_off_at_the_quota(robot: Registry) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(10_000)

    location = await start_upload(robot, "one/app")
    answer = await robot.send("PATCH", location, data=endless())
    assert answer.refusal == (403, "DENIED")


async def test_no_session_takes_more_than_the_quota_whatever_the_registry_holds(robot: Registry) -> None:
    await push_blob(robot, "one/app", make_content(90_000))
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 10_000
            yield bytes(10_000)

    location = await start_upload(robot, "one/app")
    assert (await robot.send("PATCH", location, data=endless())).refusal == (403, "DENIED")
    status = await robot.send("GET", location)
    assert int(status.headers["Range"].partition("-")[2]) < 90_000


@pytest.mark.parametrize("way", ["post", "put", "patch"])
async def test_a_blob_that_the_registry_has_comes_again_though_there_is_no_room_for_it(
    robot: Registry, way: str
) -> None:
    content = make_content(60_000)
    await push_blob(robot, "one/app", content)
    assert (await push(robot, way, content, "another")).status == 201
    assert (await robot.send("GET", f"/v2/one/another/blobs/{digest_of(content)}")).status == 200
    assert await used(robot) == 60_000


async def test_a_full_registry_still_takes_whole_what_it_has(robot: Registry) -> None:
    content = make_content(QUOTA)
    await push_blob(robot, "one/app", content)
    assert (await put_whole(robot, content, "another")).status == 201
    mounting = {"mount": digest_of(content), "from": "one/app"}
    assert (await robot.send("POST", "/v2/one/third/blobs/uploads/", query=mounting)).status == 201
    assert await used(robot) == QUOTA


async def test_whether_there_is_room_tells_nobody_what_other_images_hold(robot: Registry) -> None:
    """Who names a digest without its bytes gets the same answer whether the registry holds it or not."""
    known = make_content(QUOTA)
    await push_blob(robot, "one/secret", known)
    answers = [
        await robot.send("POST", UPLOADS, query={"digest": digest}, data=b"guess")
        for digest in (digest_of(known), digest_of(b"nowhere"))
    ]
    assert [answer.refusal for answer in answers] == [(400, "DIGEST_INVALID")] * 2


async def test_a_mount_from_another_registry_is_charged_like_an_upload(guarded: Registry) -> None:
    giver = guarded.seen_by(await guarded.make_robot("open", public=True))
    taker = guarded.seen_by(await guarded.make_robot("one", quota_bytes=QUOTA))
    small, large = make_content(60_000), make_content(50_000)
    for content in (small, large):
        await push_blob(giver, "open/base", content)
    mounted = [
        await taker.send("POST", UPLOADS, query={"mount": digest_of(content), "from": "open/base"})
        for content in (small, small, large)
    ]
    assert [answer.status for answer in mounted] == [201, 201, 403]
    refused_with(mounted[-1], 60_000, 50_000)
    assert await used(taker) == 60_000


async def test_bytes_that_are_elsewhere_on_the_server_are_charged_where_they_come(guarded: Registry) -> None:
    content = make_content(60_000)
    await push_blob(guarded.seen_by(await guarded.make_robot("other")), "other/app", content)
    robot = guarded.seen_by(await guarded.make_robot("one", quota_bytes=QUOTA))
    assert (await put_whole(robot, content)).status == 201
    assert await used(robot) == 60_000
    refused_with(await put_whole(robot, make_content(50_000)), 60_000, 50_000)


async def test_what_a_collection_frees_may_be_used_again(robot: Registry, guarded: Registry) -> None:
    content = make_content(90_000)
    digest = await push_blob(robot, "one/app", content)
    refused_with(await put_whole(robot, make_content(20_000)), 90_000, 20_000)
    assert (await robot.send("DELETE", f"/v2/one/app/blobs/{digest}")).status == 202
    await collect(guarded, await id_of(guarded, "one"))
    assert (await put_whole(robot, make_content(20_000))).status == 201


async def test_a_larger_quota_holds_with_the_next_request(robot: Registry, guarded: Registry) -> None:
    content = make_content(QUOTA + 1)
    assert (await put_whole(robot, content)).refusal == (403, "DENIED")
    path = f"/registries/{await id_of(guarded, 'one')}"
    assert (await call(guarded, "PATCH", path, {"quota": {"storage_gb": 0.001}})).status == 200
    assert (await put_whole(robot, content)).status == 201


@pytest.mark.parametrize("way", ["post", "put", "patch"])
async def test_as_many_racers_as_fit_come_in_and_not_one_byte_more(robot: Registry, way: str) -> None:
    size = QUOTA // 20 - 1  # room for 20 of 64, and for 20 bytes that nobody brings
    robot = robot.seen_by(await draw_token(robot, "repository:one/app:pull,push"))
    answers = await asyncio.gather(*(push(robot, way, make_content(size)) for _ in range(RACERS)))
    assert Counter(answer.status for answer in answers) == {201: 20, 403: RACERS - 20}
    assert {answer.code for answer in answers if answer.status == 403} == {"DENIED"}
    assert await used(robot) == 20 * size


async def test_racers_with_the_same_blob_are_charged_once(robot: Registry) -> None:
    content = make_content(QUOTA)
    answers = await asyncio.gather(*(put_whole(robot, content, f"app-{number}") for number in range(RACERS)))
    assert {answer.status for answer in answers} == {201}
    assert await used(robot) == QUOTA
