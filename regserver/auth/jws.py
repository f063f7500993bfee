"""JSON Web Signatures as they are made here (RFC 7515 §7.1, compact): RS256 for passwords, ES256 for bearer tokens."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping

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


def _segment(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
