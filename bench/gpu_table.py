"""python bench/gpu_table.py FOLDER: the table of `bench/gpu.sh`, out of what its steps left in a folder.

Written into docs/benchmarks.md between two marks; with --dry-run printed, and said to be no measurement.
"""

import argparse
import datetime
import json
from pathlib import Path

from machine import describe, number

PAGE = Path(__file__).parent.parent / "docs/benchmarks.md"
BEGIN, END = "<!-- written by bench/gpu.sh -->", "<!-- /written by bench/gpu.sh -->"
STEPS = ("tests", "heads", "forward", "extract", "classifiers")


def rows_of(step: str, folder: Path) -> list[str]:
    """A line of the table for every figure of a step; for one that failed, that it did."""
    code, seconds, _ = (folder / f"{step}.step").read_text().split(" ", 2)
    out = (folder / f"{step}.out").read_text()
    if step == "tests":
        return [f"| tests | {out.strip().splitlines()[-1].strip('= ') if out.strip() else 'nothing was said'} | |"]
    if code != "0":
        why = "ran out of time" if code in ("124", "137") else f"failed with exit code {code}"
        return [f"| {step} | {why} after {seconds} s | |"]
    measured = json.loads(out)
    lines = [f"| {row['name']} | {number(row['median']).strip()} | {row['unit']} |" for row in measured["results"]]
    return lines + [f"| {name} | {number(value).strip()} | ratio |" for name, value in measured["ratios"].items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dry-run", action="store_true")
    args = parser.parse_args()
    seconds = sum(int((args.folder / f"{step}.step").read_text().split()[1]) for step in STEPS)
    lines = [
        f"{datetime.date.today().isoformat()}, {describe()}; {seconds} s for all of it.",
        "",
        "| | | |",
        "|---|---|---|",
        *(line for step in STEPS for line in rows_of(step, args.folder)),
    ]
    if args.dry_run:
        print("\n".join(["A dry run on a CPU: no measurement of a GPU, and nothing is written.", "", *lines]))
        return
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text("\n".join([before + BEGIN, *lines, END]) + after, encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
