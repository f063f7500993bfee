"""Everything that decides who asks and what they may, over a real catalog and without HTTP."""

import base64
import dataclasses
import json
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

from regserver.auth import jws
from regserver.auth.api_tokens import ApiTokens
from regserver.auth.authenticate import Authenticator
from regserver.auth.authorize import Authorizer
from regserver.auth.keys import FOLDER, Keys, generate, make_folder
from regserver.auth.robots import Robots
from regserver.auth.scopes import Scopes
from regserver.auth.tokens import TYPE, Tokens
from regserver.config import Settings
from regserver.content.core import Core
from regserver.content.registries import Registries
from regserver.model.access import Access, Account, Action, Kind
from regserver.model.ids import new_id
from regserver.model.names import RepositoryName
from regserver.storage.catalog import accounts
from regserver.storage.catalog.accounts import CredentialRow
from regserver.storage.sql.migrate import migrate
from regserver.storage.sql.port import Transaction
from regserver.storage.sql.sqlite import SQLiteDatabase
from support.memory_blobs import MemoryBlobStore

ADMIN_TOKEN = "the-administrator-token-of-these-tests"
ADDRESS = "192.0.2.7"
ALL = frozenset(Action)
PULL = frozenset({Action.PULL})
PUSH = Access.PUSH.actions


@dataclasses.dataclass
class House:
    """An installation: who it knows, and what it lets them do."""

    core: Core
    keys: Keys
    tokens: Tokens
    robots: Robots
    registries: Registries
    authenticator: Authenticator
    authorizer: Authorizer

    async def open_registry(self, name: str, *, public: bool = False) -> str:
        return (await self.registries.create(name, public=public)).id

    async def draw_token(self, username: str | None = None, password: str = "", *asked: str) -> str:
        """A bearer token as the token service would give it."""
        if username is None:
            identity = await self.authenticator.identity(None)
        else:
            identity = await self.authenticator.login(username, password)
        granted = await self.authorizer.grant_all(identity.account, scopes_of(*asked))
        return (await self.tokens.issue(identity.account.subject, identity.binding, granted))[0]

    async def installation(self) -> str:
        return await accounts.installation_id(self.core.db)

    async def active_key(self) -> str:
        active = await accounts.active_key(self.core.db)
        assert active is not None
        return active

    async def forge(self, claims: Mapping[str, Any], header: Mapping[str, Any] | None = None) -> str:
        """Signed with the real key: what only a mistake of our own could bring about."""
        key_id = await self.active_key()
        complete = {"alg": "RS256", "kid": key_id, "typ": TYPE} if header is None else header
        return jws.sign(self.keys, key_id, complete, json.dumps(claims))


@cache
def known_key() -> bytes:
    """The PEM of one key for all installations of a test run: making one takes a while."""
    with tempfile.TemporaryDirectory() as folder:
        return (Path(folder) / FOLDER / f"{generate(Path(folder))}.pem").read_bytes()


async def begin(root: Path, db: SQLiteDatabase) -> None:
    """The first start, but with the known key."""
    make_folder(root / FOLDER)
    path = root / FOLDER / f"{new_id('key')}.pem"
    path.touch(mode=0o600)
    path.write_bytes(known_key())
    await db.write(accounts.establish)
    await db.write(partial(accounts.activate_key, key_id=path.stem, now=0))


@asynccontextmanager
async def opened_house(
    root: Path, admin_token: str = ADMIN_TOKEN, *, fresh_key: bool = False, **settings: Any
) -> AsyncIterator[House]:
    """An installation in a folder; the same folder again is a restart, or a second process beside the first."""
    db = await SQLiteDatabase.open(root / "catalog.sqlite3")
    try:
        await migrate(db)
        core = Core(db, MemoryBlobStore(), Settings(root=root, **settings))
        if not fresh_key and await accounts.active_key(db) is None:
            await begin(root, db)
        keys = await Keys.load(root, db)
        tokens, robots = Tokens(keys, core), Robots(keys, core)
        registries = Registries(core, robots.create, lambda: None)
        authenticator = Authenticator(core, keys, tokens, robots, admin_token, ApiTokens(core))
        authorizer = Authorizer(core, registries.ensure)
        yield House(core, keys, tokens, robots, registries, authenticator, authorizer)
    finally:
        await db.close()


async def add_robot(
    core: Core, keys: Keys, registry_id: str, username: str, actions: frozenset[Action]
) -> tuple[str, str]:
    """Another robot of a registry, with fewer rights: (username, password)."""
    claims = jws.compact({"iss": "x", "aud": "x", "sub": username, "jti": "x", "iat": 0, "nbf": 0, "exp": 2**33})

    async def insert(tx: Transaction) -> CredentialRow:
        key_id = await accounts.active_key(tx)
        assert key_id is not None
        name = username.partition("+")[2] or None
        row = CredentialRow(new_id("rob"), registry_id, username, actions, 1, key_id, claims, name=name)
        await accounts.insert(tx, row)
        return row

    row = await core.db.write(insert)
    return username, jws.sign(keys, row.key_id, {"alg": "RS256", "typ": "JWT"}, row.claims)


async def change_claims(house: House, registry_id: str, **changes: Any) -> None:
    """Writes other claims into the row of the registry's robot."""
    row = await accounts.of_registry(house.core.db, registry_id)
    assert row is not None
    changed = dataclasses.replace(row, claims=jws.compact({**json.loads(row.claims), **changes}))
    await house.core.db.write(partial(accounts.replace, row=changed, rotated_at=0))


def scopes_of(*asked: str) -> Scopes:
    """``"a/b"`` is everything on it, ``"a/b:pull"`` less."""
    found = {}
    for text in asked:
        name, colon, actions = text.partition(":")
        found[RepositoryName.parse(name)] = frozenset(map(Action, actions.split(","))) if colon else ALL
    return Scopes(found)


def basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def bearer(token: str) -> str:
    return f"Bearer {token}"


def parts_of(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(header, claims), unverified; members in their order."""
    header, claims, _ = token.split(".")
    return tuple(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in (header, claims))  # type: ignore[return-value]


def robot_account(registry_id: str, actions: frozenset[Action] = ALL, subject: str = "robot$a") -> Account:
    return Account(Kind.ROBOT, subject, registry_id, actions)
