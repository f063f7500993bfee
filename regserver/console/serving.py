"""From a request to a page: who looks, may they, did the form come from a page of ours, and what refusals look like.

The rules are those of /v1: the same gate counts, the same authenticator knows the credentials that a session stands
for, the same authorizer decides.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from aiohttp import hdrs, web
from aiohttp.web_urldispatcher import UrlDispatcher, UrlMappingMatchInfo

from regserver.auth.sessions import is_form_token, new_secret
from regserver.console import ROOT, cookies, links
from regserver.console.routes import PAGES
from regserver.console.visit import FORM, Page, Visit, parse_form, see_other
from regserver.errors import ErrorCode, RegistryError, Unauthorized
from regserver.model.access import Access, Caller
from regserver.model.audit import Actor
from regserver.model.ids import is_id
from regserver.web import streaming
from regserver.web.challenge import client_address, public_base
from regserver.web.context import SERVICES
from regserver.web.facts import FACTS
from regserver.web.routing import NOBODY

# Nothing is fetched from elsewhere, no script and no style stands in a page, and no other page may frame one of ours.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "same-origin",  # "no-referrer" would hide the Origin of our own forms
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_CHANGES: Final = hdrs.METH_POST


def _router() -> UrlDispatcher:
    router = UrlDispatcher()
    for path in dict.fromkeys(page.path for page in PAGES):
        resource = router.add_resource(ROOT + path)
        for page in PAGES:
            if page.path == path:
                resource.add_route(page.method, _unreachable)
                _TABLE[page.method, ROOT + path] = page
                if page.method == hdrs.METH_GET:
                    resource.add_route(hdrs.METH_HEAD, _unreachable)
                    _TABLE[hdrs.METH_HEAD, ROOT + path] = page
    return router


async def _unreachable(_: web.Request) -> web.StreamResponse:
    raise LookupError("pages are found by the table")


_TABLE: dict[tuple[str, str], Page] = {}
_ROUTER: Final = _router()


async def serve(request: web.Request) -> web.StreamResponse:
    """Every request under the console's path."""
    services = request.app[SERVICES]
    secret, fresh = cookies.read(request, services.settings), None
    if secret is None:
        secret = fresh = new_secret()  # for the forms of whoever has not signed in
    visit = Visit(request, services, NOBODY, secret)
    try:
        response = await _answer(visit)
    except RegistryError as refused:
        response = _refused(visit, refused)
    if not response.prepared:
        response.headers.update(HEADERS)
        if fresh is not None and not response.cookies:
            cookies.write(request, services.settings, response, fresh)
    return response


async def _answer(visit: Visit) -> web.StreamResponse:
    request, services = visit.request, visit.services
    page, params = await _find(request)
    origin = Actor("", client_address(request, services.settings), request[FACTS].request_id)
    nobody = replace(NOBODY, address=origin.address, request_id=origin.request_id)
    visit = replace(visit, params=params, caller=nobody)
    if page.access is not Access.OPEN:
        visit = replace(visit, caller=await _caller(visit, page, origin))
    if page.method == _CHANGES:
        visit = replace(visit, form=await _form(visit))
    return await page.handler(visit)


async def _find(request: web.Request) -> tuple[Page, dict[str, str]]:
    """Raises RegistryError NOT_FOUND, UNSUPPORTED."""
    match = await _ROUTER.resolve(request)
    if not isinstance(match, UrlMappingMatchInfo) or match.http_exception is not None:
        wrong_method = isinstance(match.http_exception, web.HTTPMethodNotAllowed)
        raise RegistryError(ErrorCode.UNSUPPORTED if wrong_method else ErrorCode.NOT_FOUND)
    resource = match.route.resource
    return _TABLE[request.method, resource.canonical if resource else ""], dict(match)


async def _caller(visit: Visit, page: Page, origin: Actor) -> Caller:
    """Raises Unauthorized, RegistryError NOT_FOUND, DENIED, TOO_MANY_REQUESTS."""
    services, registry_id = visit.services, visit.params.get("registry_id")
    services.gate.admit(origin)
    caller = await services.sessions.caller(cookies.read(visit.request, services.settings), origin.address)
    caller = replace(caller, address=origin.address, request_id=origin.request_id)
    visit.request[FACTS].subject = caller.account.subject
    services.gate.admit_caller(caller)
    if registry_id is not None and not is_id("reg", registry_id):
        raise RegistryError(ErrorCode.NOT_FOUND)
    services.authorizer.general(caller, page.access, registry_id)
    return caller


async def _form(visit: Visit) -> dict[str, str]:
    """The fields of a form that a page of ours has sent. Raises RegistryError DENIED for any other page's."""
    request = visit.request
    if request.content_type != FORM:
        raise RegistryError(ErrorCode.MEDIA_TYPE_UNSUPPORTED)
    form = parse_form(await streaming.read(request, visit.services.settings, streaming.MAX_DOCUMENT_BYTES))
    if not _is_ours(visit) or not is_form_token(visit.secret, form.pop("form_token", "")):
        message = "this form is no longer valid: go back, reload the page and send it again"
        raise RegistryError(ErrorCode.DENIED, message=message)
    return form


def _is_ours(visit: Visit) -> bool:
    """Whether the Origin, where the browser tells one, is this registry."""
    origin = visit.request.headers.get(hdrs.ORIGIN)
    return origin is None or origin.lower() == str(public_base(visit.request, visit.services.settings))


def _refused(visit: Visit, refused: RegistryError) -> web.Response:
    request = visit.request
    if isinstance(refused, Unauthorized):
        return _to_sign_in(request)
    return visit.page("refused.html", status=refused.code.status, error=refused, request_id=request[FACTS].request_id)


def _to_sign_in(request: web.Request) -> web.Response:
    """Whoever looks is sent to the door, and back to where they wanted once they are in."""
    wanted = request.rel_url.raw_path_qs if request.method == hdrs.METH_GET else None
    location = links.sign_in(wanted)
    if request.headers.get("HX-Request") == "true":  # a part of a page: the door is none
        return web.Response(status=204, headers={"HX-Redirect": links.sign_in()})
    return see_other(location)
