"""What was injected how many times, and what was seen: counted while the tests run, written as docs/faults.md.

Each run leaves what its tests counted as one JSON file below build/faults; the page is made of all of them, the newest
of each test, so that a run of an hour can be split or taken up again. `make faults` begins with an empty folder.
"""

import json
import platform
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.catalogue import ELSEWHERE, FAULTS

HEAD = """# Faults, and what was seen under each

Written by `make faults` from what it ran; do not edit. `make test` runs the same tests with a twentieth of the long
counts.
"""
MACHINE = (
    "`tests/faults/test_machine.py` lets hypothesis try sequences of these steps. After each one, what `load` returns "
    "is what the model says of the last complete extract, or an error where the cache is damaged; no sequence was "
    "found after which that did not hold."
)


@dataclass
class Case:
    """One test case as it ran."""

    faults: list[int]
    seen: Counter[tuple[int, str, str]] = field(default_factory=Counter)  # fault, injected, outcome -> times
    steps: dict[str, int] = field(default_factory=dict)  # of the state machine
    state: str = ""  # "passed", "failed", "skipped"
    reason: str = ""
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {**self.__dict__, "seen": [[*key, times] for key, times in self.seen.items()]}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> "Case":
        seen = Counter({(fault, injected, outcome): times for fault, injected, outcome, times in found["seen"]})
        return cls(**{**found, "seen": seen})


Cases = dict[str, Case]  # by the test's id


def keep(folder: Path, cases: Cases) -> Cases:
    """Write this run's cases down; all that are known, the newest of each."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({name: case.to_json() for name, case in cases.items()})
    (folder / f"{time.time_ns()}.json").write_text(text)
    known: Cases = {}
    for path in sorted(folder.glob("*.json")):
        known.update({name: Case.from_json(found) for name, found in json.loads(path.read_text()).items()})
    return known


def lacking(cases: Cases) -> list[str]:
    """What the page would need and does not have: faults and tests that have not run, or have failed."""
    failed = [name for name, case in cases.items() if case.state == "failed"]
    passed = {test_of(name) for name, case in cases.items() if case.state == "passed"}
    here = {
        number for name, case in cases.items() if case.state == "passed" and _is_here(name) for number in case.faults
    }
    numbers = [f"fault {number}" for number in FAULTS if number not in here]
    steps = [] if any(case.steps for case in cases.values()) else ["the state machine"]
    return [*failed, *numbers, *sorted({test for tests in ELSEWHERE.values() for test in tests} - passed), *steps]


def page(cases: Cases, versions: Mapping[str, str]) -> str:
    """docs/faults.md."""
    made = ", ".join(f"{name} {version}" for name, version in versions.items())
    injected = sum(sum(case.seen.values()) for case in cases.values())
    minutes = sum(case.seconds for case in cases.values()) / 60
    lines = [
        HEAD,
        f"{injected:,} injections counted, in {minutes:.0f} minutes of tests; {made}; {platform.system()} "
        f"{platform.machine()}.",
        "",
        "| # | fault | promise |",
        "|---|---|---|",
        *(f"| [{number}](#{number}) | {fault} | {promise} |" for number, (fault, promise) in FAULTS.items()),
    ]
    for number, (fault, promise) in FAULTS.items():
        lines += ["", f"## {number}", "", f"{_sentence(fault)} Promise: {_sentence(promise)}", ""]
        lines += _table(number, cases.values())
        for name, case in sorted(cases.items()):
            if number in case.faults and case.state == "skipped":
                lines.append(f"- `{name}` was skipped: {case.reason}")
        tests = Counter(
            test_of(name) for name, case in cases.items() if number in case.faults and case.state == "passed"
        )
        lines += [f"- `{test}`" + (f", {times} cases" if times > 1 else "") for test, times in sorted(tests.items())]
    steps: Counter[str] = Counter()
    for case in cases.values():
        steps.update(case.steps)
    lines += ["", "## Any sequence of them", "", MACHINE, "", "| step | times |", "|---|---:|"]
    lines += [f"| {step} | {times:,} |" for step, times in sorted(steps.items())]
    return "\n".join(lines) + "\n"


def test_of(name: str) -> str:
    """A test without its parameters."""
    return name.partition("[")[0]


test_of.__test__ = False  # type: ignore[attr-defined]


def _table(number: int, cases: Iterable[Case]) -> list[str]:
    counts: Counter[tuple[str, str]] = Counter()
    for case in cases:
        for (fault, injected, outcome), times in case.seen.items():
            if fault == number:
                counts[injected, outcome] += times
    if not counts:
        return []
    rows = [f"| {injected} | {outcome} | {times:,} |" for (injected, outcome), times in sorted(counts.items())]
    return ["| injected | seen | times |", "|---|---|---:|", *rows, ""]


def _is_here(name: str) -> bool:
    return name.startswith("tests/faults/")


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."
