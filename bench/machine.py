"""What every benchmark here shares: which machine it ran on, alternating runs, a table, and JSON."""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch


@dataclass(frozen=True, slots=True)
class Result:
    """One thing that was measured, over its runs."""

    name: str
    unit: str
    median: float
    min: float
    max: float
    runs: int
    values: tuple[float, ...] = ()  # of each run, in their order

    @classmethod
    def of(cls, name: str, unit: str, values: Sequence[float]) -> "Result":
        return cls(name, unit, statistics.median(values), min(values), max(values), len(values), tuple(values))

    def rate(self, images: int) -> "Result":
        """Images a second, of seconds for so many images."""
        return Result.of(self.name, "images/s", [images / seconds for seconds in self.values])

    def ratio_to(self, other: "Result") -> float:
        """Return the median of the rounds' ratios: a slow minute of the machine falls on both of a round.

        Args:
            other: Of the same alternating runs.
        """
        return statistics.median(mine / theirs for mine, theirs in zip(self.values, other.values, strict=True))


def describe() -> str:
    """CPU model, cores, accelerator if there is one, and the versions that matter; no names, no paths."""
    parts = [
        _cpu(),
        f"{os.process_cpu_count() if hasattr(os, 'process_cpu_count') else os.cpu_count()} cores",
    ]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    parts += [f"Python {platform.python_version()}", f"torch {torch.__version__}"]
    return ", ".join(parts)


def alternate(
    tasks: Mapping[str, Callable[[], object]],
    runs: int,
    unit: str = "s",
    *,
    before: Callable[[], object] = lambda: None,
) -> list[Result]:
    """Seconds of every task, `runs` times, taking turns so that a busy minute falls on all of them.

    `before` is called before each, and not timed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(runs):
        for name, task in tasks.items():
            before()
            began = time.perf_counter()
            task()
            seconds[name].append(time.perf_counter() - began)
            print(f"{name}: {seconds[name][-1]:.2f} s", file=sys.stderr, flush=True)
    return [Result.of(name, unit, taken) for name, taken in seconds.items()]


def table(results: Sequence[Result], ratios: Mapping[str, float]) -> str:
    """The results and ratios as aligned text, headed by the machine."""
    lines = [describe(), "", f"{'':34} {'unit':10} {'median':>9} {'min':>9} {'max':>9} {'runs':>5}"]
    lines += [f"{r.name:34} {r.unit:10} {number(r.median)} {number(r.min)} {number(r.max)} {r.runs:5}" for r in results]
    lines += ["", *(f"{name:34} {number(value):>20}" for name, value in ratios.items())]
    return "\n".join(lines)


def number(value: float) -> str:
    """Two decimals; of what these would make 0.00 or blur, four digits."""
    return f"{value:9.2f}" if abs(value) >= 10 or value == 0 else f"{value:9.4g}"


def document(results: Sequence[Result], ratios: Mapping[str, float]) -> str:
    """The same as one JSON document."""
    found = {"machine": describe(), "results": [asdict(r) for r in results], "ratios": dict(ratios)}
    return json.dumps(found, indent=2)


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
