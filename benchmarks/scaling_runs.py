"""Rounds of the scaling benchmark: one, two, three and eight threads, and two processes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks.figures import RATIO, Figure, Side, ratios
from benchmarks.peers import ROOT
from benchmarks.scaling_cases import CASES


class Setting(NamedTuple):
    """Number of processes, and of threads in each."""

    processes: int
    threads: int

    def __str__(self) -> str:
        if self.processes > 1:
            return f"{self.processes} processes"
        return "1 thread" if self.threads == 1 else f"{self.threads} threads"


SETTINGS = tuple(Setting(*each) for each in ((1, 1), (1, 2), (1, 3), (1, 8), (2, 1)))
SECONDS = 0.5
"""Seconds of one run."""
QUICK_SECONDS = 0.05
RATIO_MIN = 1.9
"""Target for two processes, relative to one thread."""
TARGET_GUEST = "returns 1"


@dataclass(frozen=True, slots=True)
class Run:
    """Calls of one run, and its cost in all processes.

    ``shootdowns`` counts the interrupts of the whole machine that invalidate address translations.
    """

    calls: float
    seconds: float
    user: float
    system: float
    faults: float
    shootdowns: float

    @property
    def rate(self) -> float:
        """Return the calls per second."""
        return self.calls / self.seconds


Runs = dict[Setting, list[Run]]


def run_case(name: str, rounds: int, seconds: float) -> Runs:
    """Run each setting once in each round; every second round runs backwards."""
    runs: Runs = {setting: [] for setting in SETTINGS}
    with ExitStack() as stack:
        command = [sys.executable, "-m", "benchmarks.scaling_process", name]
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            )
            for _ in range(max(setting.processes for setting in SETTINGS))
        ]
        for process in processes:
            _read_line(process)
        for index in range(rounds + 1):
            for setting in SETTINGS if index % 2 else reversed(SETTINGS):
                run = _run_once(processes[: setting.processes], setting.threads, seconds)
                if index:  # The first round warms up.
                    runs[setting].append(run)
    return runs


def _run_once(processes: Sequence[subprocess.Popen[str]], threads: int, seconds: float) -> Run:
    before = count_shootdowns()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(f"{threads} {seconds}\n")
        process.stdin.flush()
    costs: list[dict[str, float]] = [json.loads(_read_line(process)) for process in processes]
    totals = {key: sum(cost[key] for cost in costs) for key in costs[0]}
    return Run(
        calls=totals["calls"],
        seconds=max(cost["end"] for cost in costs) - min(cost["begin"] for cost in costs),
        user=totals["user"],
        system=totals["system"],
        faults=totals["faults"],
        shootdowns=count_shootdowns() - before,
    )


def _read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        sys.exit("a process of the scaling benchmark failed")
    return line


def count_shootdowns() -> int:
    """Return the number of TLB shootdowns that all processors have received; 0 if unknown."""
    for line in Path("/proc/interrupts").read_text().splitlines():
        name, _, counts = line.strip().partition(":")
        if name == "TLB":
            return sum(int(word) for word in counts.split() if word.isdecimal())
    return 0


# -- figures --------------------------------------------------------------------------------------


def figures(name: str, rounds: int, seconds: float) -> Iterator[Figure]:
    """Yield the figures of one case."""
    yield from make_figures(name, run_case(name, rounds, seconds))


def make_figures(name: str, runs: Runs) -> Iterator[Figure]:
    """Yield the rate and the cost of each setting, and its ratio to one thread."""
    group = f"scaling, {name}"
    alone = [run.rate for run in runs[SETTINGS[0]]]
    for setting, found in runs.items():
        rates = [run.rate for run in found]
        yield Figure(
            group=group,
            name=str(setting),
            unit="thousand calls/s",
            values=tuple(rate / 1e3 for rate in rates),
            side=Side.OURS,
            note=describe_cost(found),
        )
        if setting is not SETTINGS[0]:
            is_judged = setting.processes > 1 and CASES[name].guest == TARGET_GUEST
            yield Figure(
                group=group,
                name=f"{setting} / 1 thread",
                unit=RATIO,
                values=ratios(rates, alone),
                floor=RATIO_MIN if is_judged else None,
            )


def describe_cost(runs: Sequence[Run]) -> str:
    """Return the cost of a call as text."""
    user, system, faults, shootdowns = find_costs(runs)
    return f"{user:.1f} us user, {system:.1f} us system, {faults:.2f} faults, {shootdowns:.3f} TLB"


def find_costs(runs: Sequence[Run]) -> tuple[float, float, float, float]:
    """Return the medians per call: user and system time in us, page faults, TLB shootdowns."""
    return (
        median(run.user / run.calls * 1e6 for run in runs),
        median(run.system / run.calls * 1e6 for run in runs),
        median(run.faults / run.calls for run in runs),
        median(run.shootdowns / run.calls for run in runs),
    )


# -- the table of the page ------------------------------------------------------------------------

_HEADINGS = (
    *("each call", "workers", "thousand calls/s", "x", "user", "system", "faults", "shootdowns"),
)


def render_table(results: Iterable[tuple[str, Runs]]) -> str:
    """Return Markdown tables, one for each guest, with the medians of all rounds."""
    lines: list[str] = []
    guest = ""
    for name, runs in results:
        case = CASES[name]
        if case.guest != guest:
            guest = case.guest
            lines += ["", f"### A guest that {guest}", "", _render_row(*_HEADINGS)]
            lines.append("|---|---|" + "---:|" * (len(_HEADINGS) - 2))
        rates = {setting: median(run.rate for run in found) for setting, found in runs.items()}
        alone = rates[SETTINGS[0]]
        for setting, found in runs.items():
            user, system, faults, shootdowns = find_costs(found)
            lines.append(
                _render_row(
                    case.way if setting is SETTINGS[0] else "",
                    str(setting),
                    f"{rates[setting] / 1e3:.1f}",
                    f"{rates[setting] / alone:.2f}",
                    f"{user:.1f}",
                    f"{system:.1f}",
                    f"{faults:.2f}",
                    f"{shootdowns:.3f}",
                )
            )
    return "\n".join(lines).strip()


def _render_row(*cells: Any) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"
