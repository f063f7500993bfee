"""Identifiers: a prefix that names the kind, and a UUIDv7 (RFC 9562 §5.7).

The UUID stands in lower-case base32hex (RFC 4648 §7), which keeps its order: ids sort by age.
"""

from __future__ import annotations

import base64
import secrets
import time

_LENGTH = 26  # 128 bits in base32 without padding


def uuid7() -> bytes:
    """48 bits of milliseconds, 12 more of their fraction (RFC 9562 §6.2, method 3), 62 random bits.

    The fraction orders what is made within one millisecond, such as two robots of one registry.
    """
    ms, rest = divmod(time.time_ns(), 1_000_000)
    fraction = rest * 4096 // 1_000_000
    value = (ms & (2**48 - 1)) << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | secrets.randbits(62)
    return value.to_bytes(16, "big")


def new_id(prefix: str) -> str:
    return f"{prefix}_{base64.b32hexencode(uuid7()).decode().rstrip('=').lower()}"


def is_id(prefix: str, text: str) -> bool:
    head, _, rest = text.partition("_")
    return (
        head == prefix
        and len(rest) == _LENGTH
        and all(character in "0123456789abcdefghijklmnopqrstuv" for character in rest)
    )


def id_ms(identity: str) -> int:
    """When the id was made, in milliseconds since 1970."""
    return int(identity.partition("_")[2][:10], 32) >> 2


def id_floor(prefix: str, ms: int) -> str:
    """Where ids of that millisecond and later begin in the order of ids; for a time that no id has, the nearest one."""
    stamp = min(max(ms, 0), 2**48 - 1)
    return f"{prefix}_{base64.b32hexencode((stamp << 80).to_bytes(16, 'big')).decode().rstrip('=').lower()}"


def new_secret() -> str:
    """128 random bits in hex: keys of the store, upload sessions."""
    return secrets.token_hex(16)
