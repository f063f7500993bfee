"""benchmarks/results.json: what was measured last, workload by workload, with the run that each comes from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.figures import Table, dump, load

FILE = Path(__file__).with_name("results.json")


@dataclasses.dataclass
class Record:
    """``runs``: by workload, which run it comes from ("2026-11-24, 3 rounds, commit abc"). All servers of a workload
    are of one run: only those are compared."""

    table: Table = dataclasses.field(default_factory=dict)
    runs: dict[str, str] = dataclasses.field(default_factory=dict)
    missing: dict[str, str] = dataclasses.field(default_factory=dict)
    machine: dict[str, str] = dataclasses.field(default_factory=dict)
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0

    def renewed(self, new: Record) -> Record:
        """What ``new`` measured replaces what is here, workload by workload."""
        scenarios = {what.rpartition(", ")[2] for what in new.missing}
        kept = {what: why for what, why in self.missing.items() if what.rpartition(", ")[2] not in scenarios}
        return Record(
            {**self.table, **new.table},
            {**self.runs, **new.runs},
            {**kept, **new.missing},
            new.machine,
            {**self.versions, **new.versions},
            new.seconds,
        )


def read(file: Path = FILE) -> Record:
    """An empty one where there is no file."""
    if not file.exists():
        return Record()
    known: Mapping[str, Any] = json.loads(file.read_text())
    return Record(**{**known, "table": load(known["table"])})


def write(record: Record, file: Path = FILE) -> None:
    known = {**dataclasses.asdict(record), "table": dump(record.table)}
    file.write_text(json.dumps(known, indent=1) + "\n")
