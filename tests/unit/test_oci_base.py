"""What the handlers of /v2 share, without a server."""

import asyncio
import contextlib

from regserver.content.core import Usage
from regserver.oci.base import next_page, to_the_end, warning


async def test_a_finishing_step_ends_though_its_request_is_cancelled() -> None:
    begun, may_end, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def step() -> None:
        begun.set()
        await may_end.wait()
        ended.set()

    request = asyncio.create_task(to_the_end(step()))
    await begun.wait()
    request.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await request
    assert not ended.is_set()
    may_end.set()
    await asyncio.wait_for(ended.wait(), 10)


def test_a_link_survives_what_its_parameters_hold() -> None:
    link = next_page("/v2/a/tags/list", 2, "a&b>c", artifactType="x/y+z; q")
    assert link == '</v2/a/tags/list?artifactType=x%2Fy%2Bz%3B%20q&n=2&last=a%26b%3Ec>; rel="next"'


def test_a_warning_comes_only_above_nine_tenths_of_a_limit() -> None:
    assert [bool(warning(usage)) for usage in (None, Usage(10**9, None), Usage(90, 100), Usage(91, 100))] == [
        False,
        False,
        False,
        True,
    ]
