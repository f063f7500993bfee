"""Settings: frozen, validated once; flags beat the environment, which beats the TOML file, which beats the defaults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an operator may decide. Durations in seconds, sizes in bytes."""

    root: Path
    host: str = "127.0.0.1"
    port: int = 5000
    dev: bool = False  # open, on loopback only; registries come to be by the first push
    public_url: str | None = None  # "https://registry.example.com"; else the listener's scheme and the request's Host
    tls_cert: Path | None = None
    tls_key: Path | None = None
    admin_token_file: Path | None = None
    default_quota_bytes: int | None = None  # None: no limit
    lease_seconds: int = 7200  # how long "it exists" holds for a push in flight
    upload_ttl_seconds: int = 7 * 86400  # an upload session that nobody continues
    untagged_seconds: int = 7 * 86400  # a manifest never tagged nor referenced stays that long
    undo_seconds: int = 7 * 86400  # the collection in the background leaves what lost its last tag that long
    epoch_seconds: int = 60
    token_seconds: int = 300
    allow_sparse: bool = False
    max_manifest_bytes: int = 8 * 2**20
    max_upload_bytes: int | None = None
    body_idle_seconds: int = 60  # a body that sends nothing for so long is cut
    drain_seconds: int = 30
    reserve_bytes: int = 64 * 2**20  # /readyz is red with less free space than this
    trusted_proxies: tuple[str, ...] = ()
    log_format: str = "text"
