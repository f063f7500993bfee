"""Every operation of the description, as everybody who may come, with what it allows and with what it does not.

Whatever is sent, the answer is a described one and no 500; `support.description`, which closes every object, listens
too. What is allowed is also taken: the administrator gets each operation done.
"""

import asyncio
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from aiohttp import encode_basic_auth
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi import checks

from regserver.auth.robots import Rights
from regserver.mgmt.openapi import make_document
from regserver.model.access import Permit
from regserver.model.audit import SERVER
from support.description import managed_routes
from support.managing import call, make_registry, services_of
from support.pushing import Registry, push_image
from support.registry import ADMIN_TOKEN, served_app

REFUSED = ["400", "401", "403", "404", "409", "412", "415", "422"]
CONFIG = SchemathesisConfig.from_dict(
    {
        "checks": {
            "negative_data_rejection": {"expected-statuses": REFUSED},
            "positive_data_acceptance": {"expected-statuses": ["2xx", "401", "403", "404", "409", "412"]},
        }
    }
)
SCHEMA = schemathesis.openapi.from_dict(json.loads(json.dumps(make_document(managed_routes()))), config=CONFIG)
OPERATIONS = {found.definition.raw["operationId"]: found for found in (row.ok() for row in SCHEMA.get_all_operations())}
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.positive_data_acceptance,
]
EXAMPLES = settings(
    max_examples=15,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
ROLES = ("nobody", "robot", "read token", "registry token", "administrator")
FEWER = 3  # only the administrator sends all of the cases
MADE_UP = ("x", "0", "%00", "%FF", "..%2F..", "a%2Ftags%2Fb", "reg_" + "0" * 26, "sha256:" + "0" * 64, "%F0%9F%A6%89")
SPECIAL = {"restore_tag": {"tag": "lost"}, "restore_image": {"image": "gone"}}  # what can be restored
OF_THE_MOMENT = {"not_found", "in_the_past", "required"}  # codes of faults that depend on what is there already

_numbers = itertools.count()


@dataclass
class House:
    """A registry with something of everything: what paths call it, and who may come (Authorization headers)."""

    words: dict[str, str]
    credentials: dict[str, str | None]


async def build(admin: Registry) -> House:
    """A new one; what was done to the last one does not matter to it."""
    name = f"house{next(_numbers)}"
    identity = await make_registry(admin, name)
    kept = await push_image(admin, f"{name}/team/api", "v1")
    for image, tag in (("team/api", "lost"), ("gone", "v1")):
        await push_image(admin, f"{name}/{image}", tag)
    images = f"/registries/{identity}/images"
    removed = [await call(admin, "DELETE", f"{images}/{rest}") for rest in ("team%2Fapi/tags/lost", "gone")]
    job = await call(admin, "POST", f"/registries/{identity}/gc", {"dry_run": True})
    assert [answer.status for answer in (*removed, job)] == [204, 204, 200]
    services = services_of(admin)
    permits = {"read token": Permit(read=True), "registry token": Permit(registries=frozenset({identity}))}
    tokens = {role: await services.api_tokens.create(role, permit, None) for role, permit in permits.items()}
    words = {
        "registry_id": identity,
        "image": "team%2Fapi",
        "tag": "v1",
        "digest": kept.digest,
        "job_id": job.json["data"]["job_id"],
        "robot_id": (await services.robots.add(identity, "spare", Rights(), SERVER))[0].id,
        "token_id": (await services.api_tokens.create("spare", Permit(read=True), None))[0].id,
    }
    credentials = {
        "nobody": None,
        "robot": encode_basic_auth(*await services.robots.credentials(identity)),
        **{role: f"Bearer {token}" for role, (_, token) in tokens.items()},
        "administrator": f"Bearer {ADMIN_TOKEN}",
    }
    return House(words, credentials)


def make_cases(operation: Any) -> list[Case]:
    """What its description allows, then what it does not: the same on every run."""
    found: list[Case] = []
    path = {part.name: "x" for part in operation.path_parameters}  # put in where the case is sent
    modes = [GenerationMode.POSITIVE, *([GenerationMode.NEGATIVE] if may_be_wrong(operation) else [])]
    for mode in modes:

        @EXAMPLES
        @given(operation.as_strategy(generation_mode=mode, path_parameters=path))
        def collect(case: Case) -> None:
            found.append(case)

        collect()
    return found


def may_be_wrong(operation: Any) -> bool:
    """Not what takes nothing but headers that may hold anything."""
    raw = operation.definition.raw
    return bool(raw["security"] or "requestBody" in raw or operation.query)


@pytest.mark.parametrize("name", OPERATIONS)
async def test_an_operation_answers_as_it_says_whoever_sends_whatever(root: Path, name: str) -> None:
    cases = await asyncio.to_thread(make_cases, OPERATIONS[name])
    done: dict[str, set[int]] = {}
    async with served_app(root) as client:
        admin = Registry(client, f"Bearer {ADMIN_TOKEN}")
        for role in ROLES:
            house = await build(admin)
            chosen = cases if role == "administrator" else cases[::FEWER]
            words = {**house.words, **SPECIAL.get(name, {})}
            sending = asyncio.to_thread(send_all, str(client.make_url("")), chosen, words, house.credentials[role])
            done[role] = await sending
    success = int(next(iter(OPERATIONS[name].definition.raw["responses"])))
    assert success in done["administrator"], done


def send_all(address: str, cases: Sequence[Case], words: Mapping[str, str], credentials: str | None) -> set[int]:
    """The statuses; every answer is checked. Every fourth path names nothing that is there."""
    statuses = set()
    with requests.Session() as session:
        for number, case in enumerate(cases):
            strange = MADE_UP[(number // 4) % len(MADE_UP)] if number % 4 == 3 else None
            case.path_parameters = {part: strange or words[part] for part in case.path_parameters}
            case.headers.pop("Authorization", None)
            if credentials is not None:
                case.headers["Authorization"] = credentials
            answer = case.call(base_url=address, session=session)
            passed = [checks.positive_data_acceptance] if depends(answer) else []
            case.validate_response(answer, checks=CHECKS, excluded_checks=passed)
            statuses.add(answer.status_code)
    return statuses


def depends(answer: requests.Response) -> bool:
    """Whether what was refused would be right elsewhere or at another time, which no schema can say."""
    error = answer.json()["error"] if answer.status_code == 422 else {"code": None, "details": []}
    details = error["details"]
    return error["code"] == "key_reused" or (bool(details) and {fault["code"] for fault in details} <= OF_THE_MOMENT)
