"""What stands in the way of a goal that is missed: shown in RESULTS.md as long as it is. By workload."""

from __future__ import annotations

from collections.abc import Mapping

NOTES: Mapping[str, str] = {
    "token-first": "such a request also takes its way through the handlers, which alone costs more than 100 µs; "
    "`token-verify` is the verifying by itself",
    "docker": "docker spends its time on unpacking; what is left to a registry is a few hundredths of it",
    "skopeo": "skopeo hashes and writes what it pulls: the client takes most of the time, whoever serves",
}
