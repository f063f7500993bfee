"""Many clients at once at a registry in ``--dev``: they push, delete and collect until it is gone, and note it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable

import aiohttp
from yarl import URL

from support.ledger import IMAGE, OCTETS, Image, Ledger, digest_of

BASE = "/v2/my/api"
# Layers that come and go: a push finds one that another is about to lose, or that another is about to have pushed.
POOL = [random.Random(number).randbytes(40_000) for number in range(6)]
GONE = (aiohttp.ClientError, ConnectionError, asyncio.TimeoutError)
ANSWER_SECONDS = 20
NAMES = 2  # tags of one pusher, which it moves again and again


class Crowd:
    """Each of its clients is a task; an answer that was not to be expected ends it with an AssertionError."""

    def __init__(self, ledger: Ledger, ways: random.Random) -> None:
        self._ledger = ledger
        self._ways = ways
        self._over = False

    async def work_until_killed(
        self,
        url: URL,
        kill: Callable[[], None],
        *,
        pushers: int,
        deleters: int,
        seconds: tuple[float, float],
        others_serve: bool = False,
    ) -> None:
        """Works for a time out of ``seconds``, kills, and raises what went wrong besides broken connections.

        ``others_serve``: who has not met the dead ends what it has begun, so that nothing is under way any more."""
        self._over = False
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        connector = aiohttp.TCPConnector(limit=0, force_close=others_serve)  # so they go to all of them
        async with aiohttp.ClientSession(url, timeout=timeout, connector=connector) as session:
            # The library would send a PUT or DELETE again by itself when its connection breaks: what the dead one had
            # done, the others would then refuse.
            session._retry_connection = False
            work = [self._push_on(session, number, random.Random(self._ways.random())) for number in range(pushers)]
            work += [self._delete_on(session, random.Random(self._ways.random())) for _ in range(deleters)]
            tasks = [asyncio.create_task(step) for step in (*work, self._collect_on(session))]
            await asyncio.sleep(self._ways.uniform(*seconds))
            kill()
            self._over = others_serve
            _, idle = await asyncio.wait(tasks, timeout=ANSWER_SECONDS if others_serve else 0.2)
            for task in idle:  # it had nothing to ask for when the server went
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        self._ledger.crashed()
        for failure in ended:
            if isinstance(failure, Exception) and not isinstance(failure, GONE):
                raise failure

    async def _push_on(self, session: aiohttp.ClientSession, pusher: int, ways: random.Random) -> None:
        while not self._over:
            names = [f"p{pusher}-{number}" for number in range(NAMES)]
            free = [name for name in names if name not in self._ledger.tags or not self._ledger.tags[name].busy]
            if free:
                await self._push(session, ways.choice(free), ways)
            else:
                await asyncio.sleep(0.005)

    async def _push(self, session: aiohttp.ClientSession, name: str, ways: random.Random) -> None:
        image = Image((b"{}", ways.randbytes(ways.choice([20, 5_000, 300_000])), ways.choice(POOL)))
        self._ledger.begin(name, image)
        for content in image.blobs:
            await push_blob(session, content, ways)
        await put(session, name, image)
        self._ledger.done(name, image)

    async def _delete_on(self, session: aiohttp.ClientSession, ways: random.Random) -> None:
        while not self._over:
            await asyncio.sleep(0.005)
            certain = self._ledger.certain()
            if not certain:
                continue
            name, image = ways.choice(certain)
            whole = ways.random() < 0.5
            self._ledger.begin(name, None)
            await delete(session, image.digest if whole else name)
            self._ledger.done(name, None)
            if whole:
                self._ledger.gone.append(image)

    async def _collect_on(self, session: aiohttp.ClientSession) -> None:
        while not self._over:
            for identity in await registries(session):
                async with session.post(f"/v1/registries/{identity}/gc") as started:
                    assert started.status == 200, await started.text()
            await asyncio.sleep(0.01)


async def push_blob(session: aiohttp.ClientSession, content: bytes, ways: random.Random) -> None:
    """By one of the ways that clients have; asks first, as they do."""
    digest, headers = digest_of(content), {"Content-Type": OCTETS}
    async with session.head(f"{BASE}/blobs/{digest}") as known:
        if known.status == 200:
            return
    if ways.random() < 0.5:
        async with session.post(f"{BASE}/blobs/uploads/?digest={digest}", data=content, headers=headers) as done:
            assert done.status == 201, await done.text()
        return
    async with session.post(f"{BASE}/blobs/uploads/") as started:
        assert started.status == 202, await started.text()
        location = started.headers["Location"]
    async with session.patch(location, data=content, headers=headers) as sent:
        assert sent.status == 202, await sent.text()
    async with session.put(f"{location}?digest={digest}") as done:
        assert done.status == 201, await done.text()


async def put(session: aiohttp.ClientSession, name: str, image: Image) -> None:
    headers = {"Content-Type": IMAGE}
    async with session.put(f"{BASE}/manifests/{name}", data=image.manifest, headers=headers) as done:
        assert done.status == 201, await done.text()


async def delete(session: aiohttp.ClientSession, reference: str) -> None:
    async with session.delete(f"{BASE}/manifests/{reference}") as done:
        assert done.status == 202, await done.text()


async def registries(session: aiohttp.ClientSession) -> list[str]:
    async with session.get("/v1/registries") as found:
        return [registry["id"] for registry in (await found.json())["data"]]


async def check(url: URL, ledger: Ledger) -> None:
    """What was acknowledged is there and pulls bit-exact; what was deleted by name has not come back."""
    async with aiohttp.ClientSession(url) as session:
        for name in list(ledger.tags):
            image = ledger.saw(name, await _read(session, f"manifests/{name}"))
            for content in image.blobs if image else ():
                assert await _read(session, f"blobs/{digest_of(content)}") == content, name
        for image in ledger.gone:
            assert await _read(session, f"manifests/{image.digest}") is None, "a deleted manifest came back"
    ledger.gone.clear()  # each is looked for after the crash that it might not have survived


async def _read(session: aiohttp.ClientSession, path: str) -> bytes | None:
    async with session.get(f"{BASE}/{path}") as answer:
        assert answer.status in (200, 404), await answer.text()
        return await answer.read() if answer.status == 200 else None


async def ready(url: URL) -> None:
    async with aiohttp.ClientSession(url) as session, asyncio.timeout(20):
        while True:
            with contextlib.suppress(*GONE):
                async with session.get("/readyz") as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.005)


async def collect_everything(url: URL, ledger: Ledger) -> None:
    """Deletes every tag and collects; returns when the collection has ended."""
    async with aiohttp.ClientSession(url) as session, asyncio.timeout(60):
        for name, _ in ledger.certain():
            await delete(session, name)
            ledger.done(name, None)
        for identity in await registries(session):
            async with session.post(f"/v1/registries/{identity}/gc") as started:
                job = (await started.json())["data"]["job_id"]
            while True:
                if await _status(session, f"/v1/registries/{identity}/gc/{job}") != "running":
                    break
                await asyncio.sleep(0.02)


async def _status(session: aiohttp.ClientSession, path: str) -> str:
    async with session.get(path) as shown:
        return str((await shown.json())["data"]["status"])
