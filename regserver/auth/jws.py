"""JSON Web Signatures as they are made here (RFC 7515 §7.1, compact): RS256 for passwords, ES256 for bearer tokens."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from regserver.auth.keys import Keys


def compact(value: Mapping[str, object]) -> str:
    """JSON without white space, the members in the order they came."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True)


def sign(keys: Keys, key_id: str, header: Mapping[str, object], claims: str) -> str:
    """Signs the text as it stands by the header's ``alg``, RS256 or ES256: with RS256 the same header, claims and key
    give the same token. Raises KeyRefused."""
    make = {"RS256": keys.sign, "ES256": keys.sign_token}[str(header["alg"])]
    signed = f"{_segment(compact(header).encode())}.{_segment(claims.encode())}"
    return f"{signed}.{_segment(make(key_id, signed.encode()))}"


@dataclass(frozen=True, slots=True)
class Jws:
    """A token taken apart; nothing of it is verified."""

    header: Mapping[str, Any]
    claims: bytes
    signature: bytes
    signed: bytes


def opened(token: str) -> Jws:
    """Raises ValueError for what is not three segments of which the first is a JSON object."""
    signed, _, signature = token.rpartition(".")
    header, _, claims = signed.partition(".")
    found = json.loads(_bytes(header))
    if not isinstance(found, dict):
        raise ValueError("the header is no object")  # noqa: TRY004 - it is what came that is wrong
    return Jws(found, _bytes(claims), _bytes(signature), signed.encode("ascii"))


def _bytes(segment: str) -> bytes:
    """Without padding, in the one way that there is to write it: no two tokens may mean the same."""
    content = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    if _segment(content) != segment:
        raise ValueError("not in canonical base64url")
    return content


def _segment(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
