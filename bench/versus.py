"""One measure in two checkouts, turn by turn: `python -m bench versus OTHER engine folds import`.

Each round runs a measure (`bench/measures.py`) in the other checkout and in this one, with the same interpreter. Both
have one core between them, so they take turns every few milliseconds, and whatever else the machine does slows both. What
counts is the ratio of CPU seconds, this to the other, within a round: the median, and the smallest and largest of all
rounds.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench.measures import MEASURES
from bench.processes import Failed
from bench.report import print_results, report_progress, write_line

HERE = Path(__file__).resolve().parents[1]
EVENTS = {"engine": 150_000, "folds": 8_000, "rows": 8_000, "import": 8_000}
"""Of one run of each measure."""
TURN_SECONDS = 600

Run = Mapping[str, Any]


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "other", type=Path, nargs="?", default=HERE, help="the other checkout (this one, to see the noise)"
    )
    parser.add_argument("measures", nargs="*", metavar="MEASURE", help=f"of {', '.join(MEASURES)} (all)")
    parser.add_argument("--rounds", type=int, default=5, help="(%(default)s)")
    parser.add_argument("--events", type=int, help="of one run (each measure has its own number)")


def run(options: argparse.Namespace) -> None:
    for name in options.measures or MEASURES:
        if name not in MEASURES:
            raise SystemExit(f"There is no measure {name!r}, only {', '.join(MEASURES)}.")
        other, this = _turns(name, options.other.resolve(), options.events or EVENTS[name], options.rounds)
        _print(name, other, this)


def _turns(name: str, other: Path, events: int, rounds: int) -> tuple[list[Run], list[Run]]:
    runs: tuple[list[Run], list[Run]] = [], []
    for number in range(rounds):
        report_progress(f"{name}, round {number + 1} of {rounds} ...")
        cpu = sorted(os.sched_getaffinity(0))[number % len(os.sched_getaffinity(0))]
        both = [_started(name, checkout, events, cpu) for checkout in (other, HERE)]
        for program, checkout, done in zip(both, (other, HERE), runs, strict=True):
            done.append(_result(program, name, checkout))
    return runs


def _started(name: str, checkout: Path, events: int, cpu: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-P", HERE / "bench" / "measures.py", name, str(events), str(cpu)],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout), "PYTHONHASHSEED": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _result(program: "subprocess.Popen[str]", name: str, checkout: Path) -> Run:
    """Raises Failed."""
    output, errors = program.communicate(timeout=TURN_SECONDS)
    if program.returncode:
        raise Failed(f"{name} failed in {checkout}:\n{errors[-2_000:]}")
    figures: Run = json.loads(output.splitlines()[-1])
    return figures


def _print(name: str, other: Sequence[Run], this: Sequence[Run]) -> None:
    ratios = sorted(mine["cpu"] / theirs["cpu"] for theirs, mine in zip(other, this, strict=True))
    rows = []
    for label, runs in (("other", other), ("this", this)):
        each = sorted(run["cpu"] / run["events"] for run in runs)
        decodes = median(run["cpu"] / run["events"] / run["decode"] for run in runs)
        rows.append(
            (
                label,
                f"{median(each) * 1e6:.1f}",
                f"{each[0] * 1e6:.1f} to {each[-1] * 1e6:.1f}",
                f"{decodes:.1f}",
            )
        )
    counted = [_counts_line(what, other, this) for what in {**other[0]["counts"], **this[0]["counts"]}]
    same = {run["same"] for run in (*other, *this)}
    print_results(
        f"{name}: {this[0]['events']:,} events, {len(this)} rounds",
        ("", "us of CPU an event", "from, to", "orjson decodes"),
        rows,
        [
            f"This takes {median(ratios):.2f} of the other's CPU ({ratios[0]:.2f} to {ratios[-1]:.2f}).",
            f"The least CPU of all runs compares as {best(this) / best(other):.2f}.",
            *counted,
            "All ended with the same results." if len(same) == 1 else "The results differ.",
        ],
    )
    write_line(f"versus {name}", other=list(other), this=list(this), ratios=ratios, same=len(same) == 1)


def best(runs: Sequence[Run]) -> float:
    """The least CPU of all: others who use the machine only add to it."""
    return min(float(run["cpu"]) for run in runs)


def _counts_line(what: str, other: Sequence[Run], this: Sequence[Run]) -> str:
    before, after = (median(run["counts"].get(what, 0) for run in runs) for runs in (other, this))
    return f"{what}: {before:,.0f}, now {after:,.0f}"
