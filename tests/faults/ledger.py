"""What was injected how many times, and what was seen: counted while the tests run, written as docs/faults.md."""

import platform
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.faults.catalogue import FAULTS

MACHINE = (
    "`tests/faults/test_machine.py` lets hypothesis try sequences of these steps. After each one, what `load` returns "
    "is what the model says of the last complete extract, or an error where the cache is damaged; no sequence was "
    "found after which that did not hold."
)


@dataclass
class Ledger:
    """One run's counts."""

    seen: dict[int, Counter[tuple[str, str]]] = field(default_factory=dict)  # fault -> (injected, outcome) -> times
    passed: dict[int, Counter[str]] = field(default_factory=dict)  # fault -> test -> cases that passed
    failed: Counter[int] = field(default_factory=Counter)
    skipped: dict[int, list[str]] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)  # of the state machine

    def saw(self, fault: int, injected: str, outcome: str, times: int = 1) -> None:
        self.seen.setdefault(fault, Counter())[injected, outcome] += times

    def page(self, seconds: float, versions: Mapping[str, str]) -> str:
        """docs/faults.md."""
        made = ", ".join(f"{name} {version}" for name, version in versions.items())
        injected = sum(sum(counts.values()) for counts in self.seen.values())
        lines = [
            "# Faults, and what was seen under each",
            "",
            "Written by `make faults` from what it ran; do not edit. `make test` runs the same tests with a",
            "twentieth to a tenth of the long counts.",
            "",
            f"{injected:,} faults injected in {seconds / 60:.0f} minutes; {made}; "
            f"{platform.system()} {platform.machine()}.",
            "",
            "| # | fault | promise |",
            "|---|---|---|",
            *(f"| [{number}](#{number}) | {fault} | {promise} |" for number, (fault, promise) in FAULTS.items()),
        ]
        for number, (fault, promise) in FAULTS.items():
            lines += ["", f"## {number}", "", f"{_sentence(fault)} Promise: {_sentence(promise)}", ""]
            if self.failed[number]:
                lines += [f"**{self.failed[number]} tests failed.**", ""]
            counts = self.seen.get(number, Counter())
            if counts:
                lines += ["| injected | seen | times |", "|---|---|---:|"]
                lines += [f"| {one} | {outcome} | {times:,} |" for (one, outcome), times in sorted(counts.items())]
                lines.append("")
            lines += [f"- Skipped: {reason}" for reason in self.skipped.get(number, [])]
            for test, cases in sorted(self.passed.get(number, Counter()).items()):
                lines.append(f"- `{test}` passed" + (f" ({cases} cases)" if cases > 1 else ""))
        if self.steps:
            lines += ["", "## Any sequence of them", "", MACHINE, "", "| step | times |", "|---|---:|"]
            lines += [f"| {step} | {times:,} |" for step, times in sorted(self.steps.items())]
        return "\n".join(lines) + "\n"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."
