"""Settings: what there is to set, each in one row; frozen. ``regserver.loading`` reads them."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from regserver.parsers import (
    GIB,
    Parser,
    database_url,
    gigabytes,
    listen,
    log_format,
    networks,
    path,
    public_url,
    switch,
    whole,
)

__all__ = ["DATABASE", "GIB", "ROOT", "SETTINGS", "ConfigError", "Setting", "Settings", "is_loopback"]

DAY = 86400
PREFIX = "REGSERVER_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an operator may decide. Durations in seconds, sizes in bytes."""

    root: Path
    database: str | None = field(default=None, repr=False)  # a URL, which may hold a password; None: a file in root
    host: str = "127.0.0.1"
    port: int = 5000
    workers: int = 1  # processes
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
    retention_seconds: int = 3600  # between two turns of one registry's retention
    epoch_seconds: int = 60
    token_seconds: int = 300
    allow_sparse: bool = False
    max_manifest_bytes: int = 8 * 2**20
    max_upload_bytes: int | None = None
    max_connections: int = 10_000  # more are closed at once
    body_idle_seconds: int = 60  # a body that sends nothing for so long is cut
    drain_seconds: int = 30
    reserve_bytes: int = 64 * 2**20  # /readyz is red with less free space than this
    trusted_proxies: tuple[str, ...] = ()
    audit_days: int = 90  # how long a line of the audit log is kept
    event_days: int = 7  # how long an event is kept for those who come back
    event_count: int = 100_000  # how many of the latest are kept at the most
    event_streams: int = 100  # who may follow the events at once
    event_stream_seconds: int = 3600  # the longest that one stream lasts; its client comes again
    failed_logins_per_minute: int = 20  # of one name from one address; 0: no limit
    requests_per_second: int = 0  # of one address, and of one credential; 0: no limit
    collect_interval_seconds: int = 86400  # from one collection of a registry to the schedule's next; 0: none
    scrub_bytes_per_second: int = 8 * 2**20  # what the scrub in the background reads; 0: it does not run
    scrub_interval_seconds: int = 7 * 86400  # from the end of one pass to the beginning of the next
    console_session_seconds: int = 12 * 3600  # how long a sign-in to the console holds
    metrics_public: bool = False  # anybody who reaches the listener may read /metrics
    metrics_listen: tuple[str, int] | None = None  # /metrics is there, open, and nowhere else
    otel: bool = False  # traces go to OpenTelemetry
    kept_answers_bytes: int = 16 * 2**20  # memory for answers that are given again as they were; 0: none are
    log_format: str = "text"


class ConfigError(Exception):
    """A setting cannot be used. One line, made for stderr; never holds a secret's value."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One row: the flag ``--name``, the variable ``REGSERVER_NAME`` and the TOML key ``name`` with underscores.

    ``parse`` takes the text of any of the three and raises ValueError with the bounds in words; ``default`` and
    ``help`` are for people. What is ``secret`` is never shown.
    """

    name: str
    field: str
    metavar: str
    parse: Parser
    default: str
    help: str
    secret: bool = False

    @property
    def key(self) -> str:
        return self.name.replace("-", "_")

    @property
    def variable(self) -> str:
        return PREFIX + self.key.upper()

    @property
    def is_switch(self) -> bool:
        return self.parse is switch


ROOT = Setting("root", "root", "DIR", path, "", "folder for everything the registry stores; made if missing")

DATABASE = Setting(
    "database",
    "database",
    "URL",
    database_url,
    "a SQLite file in ROOT",
    "PostgreSQL for the catalog, postgresql://USER@HOST/DATABASE; blobs and keys stay in ROOT",
    secret=True,
)

# One table: flags, variables, TOML keys and docs/settings.md all come from it.
SETTINGS = (
    ROOT,
    DATABASE,
    Setting("listen", "listen", "HOST:PORT", listen, "127.0.0.1:5000", "address to listen on; port 0 takes a free one"),
    Setting(
        "workers", "workers", "N", whole(1, 64), "1", "processes that serve the address together, one for each core"
    ),
    Setting("dev", "dev", "", switch, "false", "open to everybody on this machine; loopback addresses only"),
    Setting(
        "public-url",
        "public_url",
        "URL",
        public_url,
        "the request's Host",
        "how clients reach this server, such as https://registry.example.com",
    ),
    Setting("tls-cert", "tls_cert", "FILE", path, "plain HTTP", "certificate chain in PEM; needs --tls-key too"),
    Setting("tls-key", "tls_key", "FILE", path, "plain HTTP", "private key in PEM, without a passphrase"),
    Setting(
        "admin-token-file",
        "admin_token_file",
        "FILE",
        path,
        "ROOT/admin-token",
        "file with the administrator's token; without it REGSERVER_ADMIN_TOKEN counts, else one is made in ROOT",
    ),
    Setting(
        "default-quota-gb",
        "default_quota_bytes",
        "N",
        gigabytes,
        "no limit",
        "quota in GiB of a registry that has none of its own; fractions allowed",
    ),
    Setting(
        "lease-seconds",
        "lease_seconds",
        "N",
        whole(60, 30 * DAY),
        "7200",
        "how long an answer 'this blob exists' protects the blob for a push under way",
    ),
    Setting(
        "upload-ttl-seconds",
        "upload_ttl_seconds",
        "N",
        whole(60, 365 * DAY),
        "604800",
        "an upload that nobody has finished after this time is removed",
    ),
    Setting(
        "untagged-seconds",
        "untagged_seconds",
        "N",
        whole(0, 3650 * DAY),
        "604800",
        "how long a manifest stays that never had a tag and that nothing refers to",
    ),
    Setting(
        "retention-seconds",
        "retention_seconds",
        "N",
        whole(60, 30 * DAY),
        "3600",
        "how often a registry's retention looks what it may delete; the first time so long after it was set",
    ),
    Setting(
        "undo-seconds",
        "undo_seconds",
        "N",
        whole(0, 3650 * DAY),
        "604800",
        "how long the scheduled collection leaves what lost its last tag, so that it can be undone",
    ),
    Setting(
        "collect-interval-seconds",
        "collect_interval_seconds",
        "N",
        whole(0, 3650 * DAY),
        "86400",
        "how often each registry is collected on schedule; 0 turns it off",
    ),
    Setting(
        "epoch-seconds", "epoch_seconds", "N", whole(1, 3600), "60", "the grain of every age that permits a deletion"
    ),
    Setting("token-seconds", "token_seconds", "N", whole(60, 900), "300", "lifetime of a token from the token service"),
    Setting(
        "allow-sparse",
        "allow_sparse",
        "",
        switch,
        "false",
        "accept manifests whose blobs or children were never pushed",
    ),
    Setting(
        "max-manifest-bytes",
        "max_manifest_bytes",
        "N",
        whole(4 * 2**20, 64 * 2**20),
        "8388608",
        "largest manifest accepted",
    ),
    Setting(
        "max-upload-bytes",
        "max_upload_bytes",
        "N",
        whole(1, 2**50),
        "no limit",
        "largest blob that an upload may reach",
    ),
    Setting(
        "max-connections",
        "max_connections",
        "N",
        whole(16, 1_000_000),
        "10000",
        "connections at once, as far as the limit of open files allows; more are closed as they come",
    ),
    Setting(
        "body-idle-seconds",
        "body_idle_seconds",
        "N",
        whole(1, 3600),
        "60",
        "a request body that sends nothing for so long is cut",
    ),
    Setting(
        "drain-seconds",
        "drain_seconds",
        "N",
        whole(0, 3600),
        "30",
        "how long running requests may go on after SIGTERM",
    ),
    Setting(
        "reserve-bytes",
        "reserve_bytes",
        "N",
        whole(0, 2**50),
        "67108864",
        "with less free space than this, /readyz answers 503",
    ),
    Setting(
        "trusted-proxies",
        "trusted_proxies",
        "NETS",
        networks,
        "none",
        "addresses or networks whose X-Forwarded-* headers are believed, separated by commas",
    ),
    Setting("audit-days", "audit_days", "N", whole(1, 3650), "90", "how long a line of the audit log is kept"),
    Setting("event-days", "event_days", "N", whole(1, 3650), "7", "how long an event is kept for who comes back"),
    Setting(
        "event-count",
        "event_count",
        "N",
        whole(100, 100_000_000),
        "100000",
        "how many events are kept at most, the latest ones",
    ),
    Setting(
        "event-streams",
        "event_streams",
        "N",
        whole(0, 100_000),
        "100",
        "how many may follow /v1/events of this process at once",
    ),
    Setting(
        "event-stream-seconds",
        "event_stream_seconds",
        "N",
        whole(10, 7 * DAY),
        "3600",
        "how long one stream of events lasts before its client must come again",
    ),
    Setting(
        "failed-logins-per-minute",
        "failed_logins_per_minute",
        "N",
        whole(0, 100_000),
        "20",
        "wrong passwords for one name from one address before more are refused unseen; 0 sets no limit",
    ),
    Setting(
        "requests-per-second",
        "requests_per_second",
        "N",
        whole(0, 1_000_000),
        "0",
        "requests of one address, and of one credential, with room for ten times as many at once; 0 sets no limit",
    ),
    Setting(
        "scrub-bytes-per-second",
        "scrub_bytes_per_second",
        "N",
        whole(0, 2**40),
        "8388608",
        "how fast the scrub in the background reads at most; 0 turns it off",
    ),
    Setting(
        "scrub-interval-seconds",
        "scrub_interval_seconds",
        "N",
        whole(60, 3650 * DAY),
        "604800",
        "how long after one scrub the next one begins",
    ),
    Setting(
        "console-session-seconds",
        "console_session_seconds",
        "N",
        whole(60, 30 * DAY),
        "43200",
        "how long a sign-in to the console in a browser holds",
    ),
    Setting(
        "metrics-listen",
        "metrics_listen",
        "HOST:PORT",
        listen,
        "the public address",
        "another address for /metrics, open to all who reach it; the public one then has none",
    ),
    Setting("metrics-public", "metrics_public", "", switch, "false", "let anybody read /metrics, without a token"),
    Setting(
        "otel", "otel", "", switch, "false", "send traces to OpenTelemetry, as its own OTEL_* variables say; an extra"
    ),
    Setting(
        "kept-answers-bytes",
        "kept_answers_bytes",
        "N",
        whole(0, 2**32),
        "16777216",
        "memory for small answers that are asked for again; plain HTTP with the catalog in SQLite; 0 keeps none",
    ),
    Setting(
        "log-format",
        "log_format",
        "text|json",
        log_format,
        "text",
        "one line per event on stderr, for people or machines",
    ),
)


def is_loopback(host: str) -> bool:
    """``localhost``, 127.0.0.0/8 or ::1. A name that merely resolves there is not: tomorrow it may not."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
