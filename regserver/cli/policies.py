"""``regserver registries policy``: tags that cannot move, and what retention takes."""

from __future__ import annotations

import argparse
from typing import Any

from regserver.cli.exits import USAGE, CommandError
from regserver.cli.output import Column
from regserver.cli.parsing import LISTED, Argument, Command, argument
from regserver.cli.session import Session
from regserver.cli.words import amount, plain, short_digest, words

_POLICY = (
    Column("Immutable tags", "immutable_tags.patterns"),
    Column("  except", "immutable_tags.except"),
    Column("Keep last", "retention.keep_last"),
    Column("Keep days", "retention.keep_days"),
    Column("Keep tags", "retention.keep_tags"),
    Column("Keep untagged", "keep_untagged"),
)
_PLAN = (
    Column("ACTION", "action"),
    Column("IMAGE", "image"),
    Column("TAG", "tag"),
    Column("DIGEST", "digest", short_digest),
    Column("REASON", "reason"),
)


def show_policy(session: Session, options: argparse.Namespace) -> None:
    session.out.record(_policy(session.api.get(session.registry_path(options.registry))), _POLICY)


def set_policy(session: Session, options: argparse.Namespace) -> None:
    """What no option names stays; changed by somebody else meanwhile, nothing is set (412)."""
    path = session.registry_path(options.registry)
    found, etag = session.api.etagged(path)
    policy = changed(_policy(found), options)
    session.api.send("PATCH", path, {"policy": policy}, headers={"If-Match": etag} if etag else {})
    session.out.record(_policy(session.api.get(path)), _POLICY)


def try_policy(session: Session, options: argparse.Namespace) -> None:
    """The policy that is set, or the one that the options would make of it."""
    path = session.registry_path(options.registry)
    current = _policy(session.api.get(path))
    policy = changed(current, options)
    body = None if policy == current else {"policy": policy}
    rows = session.api.pages(f"{path}/retention/dry-run", method="POST", body=body)
    gone = sum(row["action"] == "delete" for row in rows)
    session.out.table(rows[: options.limit], _PLAN, empty="retention has nothing to look at: no tag is there")
    if rows:
        session.out.note(f"{gone} of {amount(len(rows), 'tag')} would go; nothing was done")


def changed(policy: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """The policy with what the options say."""
    immutable, retention = policy.get("immutable_tags"), policy.get("retention")
    if options.immutable is not None or options.excepted is not None:
        immutable = {
            "patterns": options.immutable or (immutable or {}).get("patterns") or [],
            "except": options.excepted if options.excepted is not None else (immutable or {}).get("except") or [],
        }
    kept = {"keep_last": options.keep_last, "keep_days": options.keep_days, "keep_tags": options.keep_tags}
    given = {name: value for name, value in kept.items() if value is not None}
    if given:
        retention = {"keep_last": None, "keep_days": None, "keep_tags": [], **(retention or {}), **given}
    if options.no_immutable:
        immutable = None
    if options.no_retention:
        retention = None
    untagged = policy.get("keep_untagged", False) if options.keep_untagged is None else options.keep_untagged
    return {"immutable_tags": immutable, "retention": retention, "keep_untagged": untagged}


def _policy(registry: dict[str, Any]) -> dict[str, Any]:
    policy = registry.get("policy")
    if not isinstance(policy, dict):
        raise CommandError(f"the server shows no policy of {plain(registry.get('name'))}", USAGE, hint="upgrade it")
    return policy


_REGISTRY = argument("registry", metavar="REGISTRY", help="its name or id")
_CHANGES: tuple[Argument, ...] = (
    argument(
        "--immutable", metavar="GLOBS", type=words, help="tags that cannot move once they are set: 'v*,release-*'"
    ),
    argument("--except", dest="excepted", metavar="GLOBS", type=words, help="and those among them that can"),
    argument("--no-immutable", action="store_true", help="every tag can move"),
    argument("--keep-last", metavar="N", type=int, help="retention keeps the last N tags of each image"),
    argument("--keep-days", metavar="D", type=int, help="and what was pushed or pulled within D days"),
    argument("--keep-tags", metavar="GLOBS", type=words, help="and the tags that match"),
    argument("--no-retention", action="store_true", help="no tag goes by itself"),
    argument(
        "--keep-untagged",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="a collection leaves manifests that have lost their tags",
    ),
)

POLICY_COMMANDS = (
    Command("policy show", "show the policy", "regserver registries policy show my-images", show_policy, (_REGISTRY,)),
    Command(
        "policy set",
        "change the policy; what is not named stays",
        "regserver registries policy set my-images --immutable 'v*' --except latest --keep-last 10",
        set_policy,
        (_REGISTRY, *_CHANGES),
    ),
    Command(
        "policy dry-run",
        "say which tags retention would delete, and why",
        "regserver registries policy dry-run my-images --keep-last 5",
        try_policy,
        (_REGISTRY, *_CHANGES, *LISTED),
    ),
)
