#!/usr/bin/env python3
"""Run the OCI distribution conformance suite, at its pinned version, against a really served registry.

    conformance/run.py                       every profile; exit code 1 unless nothing fails, errs or is skipped
    conformance/run.py --profile dev         one of them
    conformance/run.py --write               also write the table in conformance/README.md and the files in results/
    conformance/run.py --workers 2           against two processes on one port
    conformance/run.py --registry HOST:PORT  against a registry that runs already (plain HTTP), e.g. to compare

The suite is built by `tools/setup-clients conformance`. It counts an answer "this is not supported" as skipped, and a
part that the configuration leaves out as disabled: the profiles named "all" turn every part on, so nothing is left out.
"""

import argparse
import contextlib
import dataclasses
import os
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent
SUITE = PROJECT / ".tools" / "bin" / "conformance"
README = HERE / "README.md"
RESULTS = HERE / "results"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
RUN_SECONDS = 900

sys.path.insert(0, str(PROJECT / "tests"))

from support.served import Account, Served, serve  # noqa: E402

# The suite's environment variables that turn a part on, without OCI_ and the group they belong to.
PARTS: Mapping[str, Sequence[str]] = {
    "API": ["PING", "PULL", "PUSH", "REFERRER"],
    "API_BLOBS": ["ATOMIC", "DELETE", "DIGEST_HEADER", "MOUNT_ANONYMOUS", "UPLOAD_CANCEL"],
    "API_MANIFESTS": ["ATOMIC", "DELETE", "DIGEST_HEADER", "TAG_PARAM"],
    "API_TAGS": ["ATOMIC", "DELETE", "LIST"],
    "DATA": ["IMAGE", "INDEX", "INDEX_LIST", "ARTIFACT", "ARTIFACT_LIST", "SUBJECT", "SUBJECT_MISSING", "SUBJECT_LIST",
             "DATA_FIELD", "NONDISTRIBUTABLE", "CUSTOM_FIELDS", "NO_LAYERS", "EMPTY_BLOB", "SHA512"],
}  # fmt: skip
EVERYTHING: Mapping[str, str] = {f"OCI_{group}_{part}": "true" for group, parts in PARTS.items() for part in parts}


@dataclasses.dataclass(frozen=True)
class Profile:
    """One run of the suite: a version of the specification, and what is turned on beyond that version's defaults."""

    name: str
    version: str
    about: str
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    sparse: bool = False

    @property
    def flags(self) -> tuple[str, ...]:
        """What the server is started with."""
        return ("--allow-sparse",) if self.sparse else ()


PROFILES: Sequence[Profile] = (
    Profile("1.0", "1.0", "the suite's defaults for 1.0"),
    Profile("1.1", "1.1", "the suite's defaults for 1.1"),
    Profile("dev", "dev", "the suite's defaults for the main branch: all but sparse manifests"),
    Profile("1.0-all", "1.0", "every API and kind of data", EVERYTHING),
    Profile("1.1-all", "1.1", "every API and kind of data", EVERYTHING),
    Profile(
        "dev-all", "dev", "every API and kind of data, sparse manifests too (server with --allow-sparse)",
        {**EVERYTHING, "OCI_DATA_SPARSE": "true"}, sparse=True,
    ),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How many of the suite's tests ended in which way, and in how many seconds."""

    passed: int
    failed: int
    errors: int
    skipped: int
    disabled: int
    seconds: float
    unhappy: Sequence[str]

    @property
    def clean(self) -> bool:
        return self.passed > 0 and not (self.failed or self.errors or self.skipped)


class SuiteError(Exception):
    """The suite did not run to its end."""


def run_profile(profile: Profile, host: str, account: Account | None, registry: str, results: Path) -> Outcome:
    """Run the suite once; its reports land in `results`. Raises SuiteError."""
    if not SUITE.exists():
        raise SuiteError("the conformance suite is missing; tools/setup-clients conformance installs it")
    results.mkdir(parents=True, exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OCI_")} | {
        "OCI_REGISTRY": host,
        "OCI_TLS": "disabled",
        "OCI_REPO1": f"{registry}/conformance/repo1",
        "OCI_REPO2": f"{registry}/conformance/repo2",
        "OCI_VERSION": profile.version,
        "OCI_RESULTS_DIR": ".",
        "OCI_LOG": "error",
        **profile.settings,
    }
    if account is not None:
        environment |= {"OCI_USERNAME": account.username, "OCI_PASSWORD": account.password}
    began = time.monotonic()
    done = subprocess.run([SUITE], cwd=results, env=environment, capture_output=True, text=True, timeout=RUN_SECONDS)
    (results / "output.txt").write_text(done.stdout + done.stderr)
    report = results / "junit.xml"
    if not report.exists():
        raise SuiteError(f"the suite left no report:\n{(done.stdout + done.stderr)[-3000:]}")
    return read_report(report, time.monotonic() - began)


def read_report(report: Path, seconds: float) -> Outcome:
    """Count a junit.xml of the suite."""
    root = ElementTree.parse(report).getroot()
    total, failed, errors, skipped, disabled = (
        int(root.get(name, "0")) for name in ("tests", "failures", "errors", "skipped", "disabled")
    )
    unhappy = [
        f"{case.get('status')}: {case.get('name')}: {(case.findtext('system-out') or '').strip()}"
        for case in root.iter("testcase")
        if case.get("status") != "passed"  # the suite calls a disabled one skipped, too
    ]
    return Outcome(total - failed - errors - skipped - disabled, failed, errors, skipped, disabled, seconds, unhappy)


# ---------------------------------------------------------------- the registry under test


@contextlib.contextmanager
def registry_under_test(
    folder: Path, profile: Profile, database: str, workers: int
) -> Iterator[tuple[Served, Account, str]]:
    """A fresh server that is not in development mode, a private registry on it, and that registry's robot."""
    environment = {"REGSERVER_DATABASE": database} if database else {}
    flags = (*profile.flags, "--workers", str(workers))
    with serve(folder / profile.name, *flags, environment=environment) as served:
        tenant = served.create_registry("conformance")
        yield served, tenant.robot, tenant.name


def run_here(profile: Profile, folder: Path, results: Path, *, database: str = "", workers: int = 1) -> Outcome:
    """Start a registry for this profile and run the suite against it. ``database``: the URL of its empty catalog."""
    with registry_under_test(folder, profile, database, workers) as (served, robot, registry):
        return run_profile(profile, served.host, robot, registry, results)


# ---------------------------------------------------------------- what is kept


def table(outcomes: Sequence[tuple[Profile, Outcome]]) -> str:
    rows = [
        "| profile | version | what | passed | failed | errors | skipped | disabled | seconds |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    rows += [
        f"| {profile.name} | {profile.version} | {profile.about} | {it.passed} | {it.failed} | {it.errors} "
        f"| {it.skipped} | {it.disabled} | {it.seconds:.0f} |"
        for profile, it in outcomes
    ]
    return "\n".join(rows)


def write_readme(outcomes: Sequence[tuple[Profile, Outcome]]) -> None:
    text = README.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n\n{table(outcomes)}\n\n{END}{after}")


def keep(profile: Profile, results: Path) -> None:
    """The suite's configuration and verdicts, and its JUnit report without the traffic (megabytes).

    What differs from run to run although nothing changed (port, durations, the order of a Go map) is taken out.
    """
    target = RESULTS / profile.name
    target.mkdir(parents=True, exist_ok=True)
    configuration = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:5000", (results / "results.yaml").read_text())
    (target / "results.yaml").write_text(configuration)
    tree = ElementTree.parse(results / "junit.xml")
    for element in tree.getroot().iter():
        element.attrib.pop("time", None)
    for suite in tree.getroot().iter("testsuite"):
        for properties in suite.findall("properties"):
            suite.remove(properties)  # the configuration again
        for case in suite.findall("testcase"):
            case.text = None
            for traffic in case.findall("system-err"):
                case.remove(traffic)
        suite[:] = sorted(suite, key=lambda case: case.get("name", ""))
    ElementTree.indent(tree)
    tree.write(target / "junit.xml", encoding="unicode")
    text = (results / "output.txt").read_text()
    summary = text[text.index("OCI Conformance Result:") :]
    (target / "summary.txt").write_text(re.sub(r"[ \t]+\n", "\n", summary).rstrip() + "\n")


# ---------------------------------------------------------------- command line


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="conformance/run.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [profile.name for profile in PROFILES]
    parser.add_argument("--profile", action="append", choices=names, help="only this one (may be given again)")
    parser.add_argument("--write", action="store_true", help="write the table and keep the results")
    parser.add_argument("--results", type=Path, metavar="DIR", help="leave the suite's full reports here")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes that serve; 1 without it")
    parser.add_argument("--registry", metavar="HOST:PORT", help="a running registry instead of one started here")
    parser.add_argument("--namespace", default="conformance", help="registry name to push to, with --registry")
    parser.add_argument("--username", default="", help="with --registry")
    parser.add_argument("--password-file", type=Path, help="with --registry")
    options = parser.parse_args(arguments)
    if options.write and (options.profile or options.registry or options.workers != 1):
        parser.error("--write needs every profile, against the registry started here, in one process")
    return options


def run_one(profile: Profile, options: argparse.Namespace, folder: Path) -> Outcome:
    results = (options.results or folder / "results") / profile.name
    if options.registry:
        password = options.password_file.read_text().strip() if options.password_file else ""
        account = Account(options.username, password, options.registry) if options.username else None
        return run_profile(profile, options.registry, account, options.namespace, results)
    outcome = run_here(profile, folder / "data", results, workers=options.workers)
    if options.write:
        keep(profile, results)
    return outcome


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    outcomes: list[tuple[Profile, Outcome]] = []
    with tempfile.TemporaryDirectory(prefix="conformance-") as name:
        (Path(name) / "data").mkdir()
        for profile in PROFILES:
            if options.profile and profile.name not in options.profile:
                continue
            print(f"==> {profile.name}: {profile.about}", flush=True)
            outcome = run_one(profile, options, Path(name))
            outcomes.append((profile, outcome))
            for line in () if outcome.clean else outcome.unhappy[:40]:
                print(f"    {line[:400]}")
    print(table(outcomes))
    if options.write:
        write_readme(outcomes)
    clean = all(outcome.clean for _, outcome in outcomes)
    print("nothing failed, nothing skipped" if clean else "NOT CLEAN")
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
