"""Credentials of robots, the installation's id, and which signing key does what.

A key's life: its file is durable, then one transaction makes it active; the transaction that makes another one active
retires it. A credential row names the key that is active in its own transaction, so a retired key that no row names is
named by none ever after.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache

from regserver.model.access import Action
from regserver.model.globs import Globs
from regserver.model.ids import new_id
from regserver.storage.sql.port import Reader, Row, Transaction

_ACTIVE_KEY = "active_key"
_RETIRED_KEY = "retired_key/"
_COMING_KEY = "coming_key/"


@dataclass(frozen=True, slots=True)
class Previous:
    """The password before the last rotation, in force until ``until`` (milliseconds)."""

    version: int
    key_id: str
    claims: str
    until: int


@dataclass(frozen=True, slots=True)
class CredentialRow:
    """A robot. Its password is minted from ``claims``, the JSON text as it is signed, with the key ``key_id``.

    ``version`` grows with every rotation. ``previous`` may have ended, ``expires_at`` may have passed: whoever asks
    compares. ``name`` None is the registry's own robot, ``images`` None every image. Times in milliseconds;
    ``updated_at`` never repeats.
    """

    id: str
    registry_id: str
    username: str
    actions: frozenset[Action]
    version: int
    key_id: str
    claims: str
    previous: Previous | None = None
    name: str | None = None
    images: Globs | None = None
    expires_at: int | None = None
    created_at: int = 0
    updated_at: int = 0
    last_used_at: int | None = None


_COLUMNS = """c.id, c.registry_id, c.username, c.actions, c.version, c.key_id, c.claims, c.name, c.images, c.expires_at,
       c.created_at, COALESCE(c.updated_at, c.created_at), c.last_used_at,
       c.previous_version, c.previous_key_id, c.previous_claims, c.previous_until"""


@lru_cache(maxsize=1024)
def _credential(row: Row) -> CredentialRow:
    """``row`` as _COLUMNS has it. Remembered by the row itself: what is read anew each time is the row."""
    identity, registry_id, username, actions, version, key_id, claims, name, images, *rest = row
    expires_at, created_at, updated_at, last_used_at, *earlier = rest
    return CredentialRow(
        identity,
        registry_id,
        username,
        frozenset(action for action in Action if action in actions.split(",")),
        version,
        key_id,
        claims,
        Previous(*earlier) if earlier[-1] is not None else None,
        name,
        None if images is None else Globs(tuple(json.loads(images))),
        expires_at,
        created_at,
        updated_at,
        last_used_at,
    )


_LIVE_BY_USERNAME = """
SELECT <columns>
FROM credentials AS c JOIN registries AS r ON r.id = c.registry_id
WHERE c.username = $1 AND r.status = 'active'
""".replace("<columns>", _COLUMNS)


async def live_by_username(reader: Reader, username: str) -> CredentialRow | None:
    """The robot, if its registry is active."""
    rows = await reader.fetch(_LIVE_BY_USERNAME, username)
    return _credential(rows[0]) if rows else None


_LIVE_BY_ID = """
SELECT <columns>
FROM credentials AS c JOIN registries AS r ON r.id = c.registry_id
WHERE c.id = $1 AND r.status = 'active'
""".replace("<columns>", _COLUMNS)


async def live_by_id(reader: Reader, credential_id: str) -> CredentialRow | None:
    """The robot, if its registry is active: what every bearer token is held against."""
    rows = await reader.fetch(_LIVE_BY_ID, credential_id)
    return _credential(rows[0]) if rows else None


_OF_REGISTRY = """
SELECT <columns>
FROM credentials AS c JOIN registries AS r ON r.id = c.registry_id
WHERE c.registry_id = $1 AND c.name IS NULL AND r.status <> 'deleting'
""".replace("<columns>", _COLUMNS)


async def of_registry(reader: Reader, registry_id: str) -> CredentialRow | None:
    """The registry's own robot; None once the registry is being deleted."""
    rows = await reader.fetch(_OF_REGISTRY, registry_id)
    return _credential(rows[0]) if rows else None


# Ids sort by age: the registry's own robot, which came with it, is the first.
_PAGE = """
SELECT <columns>
FROM credentials AS c WHERE c.registry_id = $1 ORDER BY c.id LIMIT $2 OFFSET $3
""".replace("<columns>", _COLUMNS)
_COUNT = "SELECT count(*) FROM credentials WHERE registry_id = $1"


async def page(reader: Reader, registry_id: str, limit: int, offset: int) -> tuple[list[CredentialRow], int]:
    """One page of a registry's robots, and how many there are on all pages; the reader is one snapshot."""
    rows = await reader.fetch(_PAGE, registry_id, limit, offset)
    return [_credential(row) for row in rows], (await reader.fetch(_COUNT, registry_id))[0][0]


_BY_ID = """
SELECT <columns>
FROM credentials AS c WHERE c.id = $2 AND c.registry_id = $1
""".replace("<columns>", _COLUMNS)


async def by_id(reader: Reader, registry_id: str, credential_id: str) -> CredentialRow | None:
    """A robot of that registry. A registry that is being deleted has none any more."""
    rows = await reader.fetch(_BY_ID, registry_id, credential_id)
    return _credential(rows[0]) if rows else None


_INSERT = """
INSERT INTO credentials (id, registry_id, username, actions, version, key_id, claims, created_at, name, images,
                         expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
"""


async def insert(tx: Transaction, row: CredentialRow) -> None:
    """Raises IntegrityFailed where the username is taken, or the registry has a robot of its own already."""
    signed = (row.version, row.key_id, row.claims, row.created_at)
    rights = (row.name, _shown(row.images), row.expires_at)
    await tx.execute(_INSERT, row.id, row.registry_id, row.username, _joined(row.actions), *signed, *rights)


def _joined(actions: frozenset[Action]) -> str:
    return ",".join(action for action in Action if action in actions)


def _shown(images: Globs | None) -> str | None:
    return None if images is None else json.dumps(images.patterns)


_UPDATE = "UPDATE credentials SET actions = $2, images = $3, expires_at = $4, updated_at = $5 WHERE id = $1"


async def update(tx: Transaction, row: CredentialRow) -> None:
    """What it may do, and until when. Who uses it is held to that from the commit on."""
    await tx.execute(_UPDATE, row.id, _joined(row.actions), _shown(row.images), row.expires_at, row.updated_at)


_REPLACE = """
UPDATE credentials SET version = $2, key_id = $3, claims = $4, rotated_at = $5,
    previous_version = $6, previous_key_id = $7, previous_claims = $8, previous_until = $9
WHERE id = $1
"""


async def replace(tx: Transaction, row: CredentialRow, rotated_at: int) -> None:
    """What a rotation changes. From its commit on the earlier password and its tokens meet another version, or live
    on as the previous one."""
    old = row.previous
    earlier = (old.version, old.key_id, old.claims, old.until) if old else (None, None, None, None)
    await tx.execute(_REPLACE, row.id, row.version, row.key_id, row.claims, rotated_at, *earlier)


_DELETE = "DELETE FROM credentials WHERE id = $1"


async def delete(tx: Transaction, credential_id: str) -> None:
    """From its commit on the password and every token drawn from it open nothing."""
    await tx.execute(_DELETE, credential_id)


_USED = "UPDATE credentials SET last_used_at = $2 WHERE id = $1 AND COALESCE(last_used_at, 0) < $2"


async def used(tx: Transaction, credential_id: str, at: int) -> None:
    """Moves forward only; a robot that is gone by now stays gone."""
    await tx.execute(_USED, credential_id, at)


_DELETE_OF_REGISTRY = "DELETE FROM credentials WHERE registry_id = $1"


async def delete_of_registry(tx: Transaction, registry_id: str) -> None:
    """In the transaction that marks a registry ``deleting``: its name is free from then on, its robot's too."""
    await tx.execute(_DELETE_OF_REGISTRY, registry_id)


_INSTALLATION = "SELECT value FROM installation WHERE name = 'id'"
_INSERT_INSTALLATION = "INSERT INTO installation (name, value) VALUES ('id', $1) ON CONFLICT (name) DO NOTHING"


async def installation_id(reader: Reader) -> str:
    """Who issues and who accepts tokens here. It never changes. Raises LookupError before ``establish``."""
    rows = await reader.fetch(_INSTALLATION)
    if not rows:
        raise LookupError("the catalog has no installation id yet")
    return str(rows[0][0])


async def establish(tx: Transaction) -> str:
    """The installation's id, made at the first start."""
    await tx.execute(_INSERT_INSTALLATION, new_id("inst"))
    return await installation_id(tx)


_VALUE = "SELECT value FROM installation WHERE name = $1"


async def active_key(reader: Reader) -> str | None:
    """The id of the key that signs; None before the first start has made one."""
    rows = await reader.fetch(_VALUE, _ACTIVE_KEY)
    return rows[0][0] if rows else None


_KNOWN_KEY = "SELECT 1 FROM installation WHERE (name = $1 AND value = $2) OR name = $3"


async def is_known_key(reader: Reader, key_id: str) -> bool:
    """Whether a key of that id signs, or did and may still be asked for."""
    return bool(await reader.fetch(_KNOWN_KEY, _ACTIVE_KEY, key_id, _RETIRED_KEY + key_id))


_SET = """
INSERT INTO installation (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value
"""


async def activate_key(tx: Transaction, key_id: str, now: int) -> str | None:
    """Makes it the one that signs and retires the earlier one, which is returned. Its file is durable already."""
    earlier = await active_key(tx)
    await tx.execute(_SET, _ACTIVE_KEY, key_id)
    if earlier is not None:
        await tx.execute(_SET, _RETIRED_KEY + earlier, str(now))
    return earlier


async def announce_key(tx: Transaction, key_id: str) -> None:
    """Before its file is made: whoever finds the file later can tell that nobody ever signed with it."""
    await tx.execute(_SET, _COMING_KEY + key_id, "")


_FORGET = "DELETE FROM installation WHERE name = $1"


async def take_announced_key(tx: Transaction, key_id: str) -> bool:
    """The fence before it is made active; False: it has been given up meanwhile, and its file with it."""
    return await tx.execute(_FORGET, _COMING_KEY + key_id) == 1


_NAMES = "SELECT name FROM installation WHERE name > $1 AND name < $2 ORDER BY name"


async def give_up_announced_keys(tx: Transaction) -> None:
    """What was announced and did not become active counts as retired long ago, so its files go with the others'."""
    for (name,) in await tx.fetch(_NAMES, _COMING_KEY, _COMING_KEY + "~"):
        await tx.execute(_FORGET, name)
        await tx.execute(_SET, _RETIRED_KEY + name.removeprefix(_COMING_KEY), "0")


_RETIRED_KEYS = "SELECT name, value FROM installation WHERE name > $1 AND name < $2 ORDER BY name"


async def retired_keys(reader: Reader) -> list[tuple[str, int]]:
    """(key id, when it was retired in milliseconds), the oldest first."""
    rows = await reader.fetch(_RETIRED_KEYS, _RETIRED_KEY, _RETIRED_KEY + "~")
    return [(name.removeprefix(_RETIRED_KEY), int(value)) for name, value in rows]


_USERNAMES_OF_KEY = """
SELECT username FROM credentials WHERE key_id = $1
UNION SELECT username FROM credentials WHERE previous_key_id = $1
ORDER BY 1
"""


async def usernames_of_key(reader: Reader, key_id: str) -> list[str]:
    """The robots whose passwords need the key, the previous ones of a rotation included."""
    return [row[0] for row in await reader.fetch(_USERNAMES_OF_KEY, key_id)]


async def forget_key(tx: Transaction, key_id: str) -> None:
    """A retired key whose files are gone."""
    await tx.execute(_FORGET, _RETIRED_KEY + key_id)
