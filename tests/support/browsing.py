"""A browser as far as requests go: it keeps its cookie, follows nothing, and sends the forms of pages."""

import re
from html import unescape
from urllib.parse import urlencode

from yarl import URL

from regserver.model.access import Permit
from support.managing import services_of
from support.pushing import Answer, Registry
from support.registry import ADMIN_TOKEN

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_TOKEN = re.compile(r'name="form_token" value="([0-9a-f]{64})"')


class Browsing:
    def __init__(self, registry: Registry) -> None:
        self._client = registry.client
        self.cookie = ""
        self.set_cookie = ""

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.send("GET", path, None, headers)

    async def page(self, path: str) -> str:
        """The text of a page that is there."""
        answer = await self.get(path)
        assert answer.status == 200, (path, answer.status, answer.body[:2000])
        return unescape(answer.body.decode())

    async def post(self, path: str, fields: dict[str, str] | None = None) -> Answer:
        """A form of a page of ours."""
        form = urlencode({**(fields or {}), "form_token": await self.form_token()})
        return await self.send("POST", path, form.encode(), FORM)

    async def form_token(self) -> str:
        """Every page has one, that of the sign-in too; it belongs to the cookie."""
        for path in ("/console/nowhere", "/console/sign-in", "/console/"):
            if found := _TOKEN.search((await self.get(path)).body.decode()):
                return found[1]
        raise AssertionError("no page has a form")

    async def sign_in(self, token: str = ADMIN_TOKEN) -> Answer:
        return await self.post("/console/sign-in", {"token": token})

    async def send(self, method: str, path: str, data: bytes | None, headers: dict[str, str]) -> Answer:
        lines = {"Accept": "text/html", **headers, **({"Cookie": self.cookie} if self.cookie else {})}
        sent = self._client.request(method, URL(path, encoded=True), data=data, headers=lines, allow_redirects=False)
        async with sent as response:
            answer = Answer(response.status, response.headers, await response.read())
        if given := answer.headers.get("Set-Cookie"):
            self.set_cookie = given
            self.cookie = "" if "Max-Age=0" in given else given.partition(";")[0]
        return answer


def is_sent_to_the_door(answer: Answer) -> bool:
    return answer.status == 303 and answer.headers["Location"].startswith("/console/sign-in")


async def token_of(registry: Registry, **permit: object) -> str:
    """A new token of the management API."""
    _, token = await services_of(registry).api_tokens.create("console", Permit(**permit), None)  # type: ignore[arg-type]
    return token


async def signed_in(registry: Registry, token: str = ADMIN_TOKEN) -> Browsing:
    browser = Browsing(registry)
    answer = await browser.sign_in(token)
    assert (answer.status, answer.headers["Location"]) == (303, "/console/")
    return browser
