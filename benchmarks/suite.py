"""Suite of all benchmarks: runs the selected parts, prints a table and stores the results."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import (
    byte_streams,
    chart,
    clone_sessions,
    epoll_waits,
    fork_guest,
    http_servers,
    instances,
    jobs_verify,
    log_suite,
    micro,
    pool_sessions,
    replays,
    sandbox_evaluations,
    scaling_cases,
    scaling_runs,
    snap_suite,
    socket_transfers,
    stacks,
    startup,
    toolkit_suite,
    workloads,
)
from benchmarks.figures import Figure, lines
from benchmarks.stopwatch import module_folder

ROUNDS = 5
QUICK_ROUNDS = 2
STARTS = 15
QUICK_STARTS = 5

Part = Callable[[], Iterator[Figure]]


def _parts(rounds: int, *, quick: bool, scale: float | None = None) -> dict[str, Part]:
    count = micro.QUICK_COUNT if quick else micro.COUNT
    parts: dict[str, Part] = {
        name: partial(workloads.figures, name, rounds) for name in ("quickjs", "cpython")
    }
    for name in micro.LOOPS:
        parts[f"call-{name}"] = partial(micro.figures, name, rounds, count)
    transfers = socket_transfers.QUICK_COUNT if quick else socket_transfers.COUNT
    waits = epoll_waits.QUICK_COUNT if quick else epoll_waits.COUNT
    parts["epoll-waits"] = partial(epoll_waits.figures, rounds, waits)
    parts["socket-transfers"] = partial(socket_transfers.figures, rounds, transfers)
    blocks = byte_streams.QUICK_COUNT if quick else byte_streams.COUNT
    parts["byte-streams"] = partial(byte_streams.figures, rounds, blocks)
    requests = http_servers.QUICK_COUNT if quick else http_servers.COUNT
    parts["http-server"] = partial(http_servers.figures, rounds, requests)
    for name in replays.CASES:
        parts[f"replay-{name}"] = partial(replays.figures, name, rounds)
    for name in stacks.CASES:
        parts[f"stacks-{name}"] = partial(stacks.figures, name, rounds)
    parts["instances"] = partial(instances.figures, rounds, quick=quick)
    parts["fork-guest"] = partial(fork_guest.figures, rounds, 16 if quick else 64)
    parts["startup"] = partial(startup.figures, QUICK_STARTS if quick else STARTS)
    for name in sandbox_evaluations.MILLISECONDS_MAX:
        evaluations = 100 if quick else 500
        parts[f"sandbox-{name}"] = partial(sandbox_evaluations.figures, rounds, name, evaluations)
    parts |= snap_suite.parts(rounds, snap_suite.QUICK if quick else snap_suite.FULL)
    parts |= log_suite.parts(rounds, log_suite.QUICK if quick else log_suite.FULL)
    journals = jobs_verify.QUICK_COUNT if quick else jobs_verify.COUNT
    parts["jobs-verify"] = partial(jobs_verify.figures, rounds, journals)
    sessions = clone_sessions.QUICK_SESSIONS if quick else clone_sessions.SESSIONS
    for name in clone_sessions.MILLISECONDS_MAX:
        parts[f"clones-{name}"] = partial(clone_sessions.figures, name, rounds, sessions)
    parts["clones-return"] = partial(clone_sessions.return_figures, rounds, sessions)
    sessions = pool_sessions.QUICK_SESSIONS if quick else pool_sessions.SESSIONS
    for name in pool_sessions.CASES:
        parts[f"pool-{name}"] = partial(pool_sessions.figures, name, rounds, sessions)
    seconds = scaling_runs.QUICK_SECONDS if quick else scaling_runs.SECONDS
    for number, name in enumerate(scaling_cases.CASES, 1):
        parts[f"scaling-{number}"] = partial(scaling_runs.figures, name, rounds, seconds)
    kit = toolkit_suite.QUICK if quick else toolkit_suite.FULL
    return parts | toolkit_suite.parts(rounds, toolkit_suite.scale_counts(scale) if scale else kit)


def describe_machine() -> dict[str, Any]:
    """Return the properties that the figures depend on: kinds and versions only."""
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "python": platform.python_version(),
        "wasmtime": version("wasmtime"),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": [round(load, 2) for load in os.getloadavg()],
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks/run.py", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two rounds and shorter loops")
    parser.add_argument("--rounds", type=int, help=f"number of rounds (default: {ROUNDS})")
    parser.add_argument("--scale", type=float, help="factor for the size of the toolkit's journals")
    parser.add_argument(
        "--only", action="append", default=[], help="run only parts with this prefix"
    )
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--chart", type=Path, help="write a chart to this file, as SVG")
    return parser.parse_args()


def main() -> None:
    """Run the selected parts, print the table and store the results."""
    options = _parse_arguments()
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    parts = _parts(rounds, quick=options.quick, scale=options.scale)
    selected = {
        name: part
        for name, part in parts.items()
        if not options.only or any(name.startswith(start) for start in options.only)
    }
    if not selected:
        sys.exit(f"no part has the prefix {', '.join(options.only)}; parts are {', '.join(parts)}")
    module_folder()
    machine = describe_machine()
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    print(
        f"{rounds} rounds; a ratio compares adjacent runs of a round; targets apply to the median"
    )
    print("\n".join([*log_suite.list_absent(), *toolkit_suite.list_absent()]))
    all_figures: list[Figure] = []
    for name, part in selected.items():
        begin = time.monotonic()
        figures = list(part())
        all_figures += figures
        print("\n".join(lines(figures)))
        print(f"  ({name}: {time.monotonic() - begin:.0f} s)", flush=True)
    _report_results(all_figures, machine, options.json)
    if options.chart is not None:
        options.chart.write_text(_draw_chart(all_figures, machine))


def _draw_chart(all_figures: list[Figure], machine: dict[str, Any]) -> str:
    words = ("date", "processor", "cores", "python")
    title = "Medians: " + ", ".join(f"{word} {machine[word]}" for word in words)
    return chart.render_svg(title, chart.group_bars(all_figures))


def _report_results(all_figures: list[Figure], machine: dict[str, Any], path: Path | None) -> None:
    missed = [figure for figure in all_figures if figure.verdict == "MISSED"]
    with_target = [figure for figure in all_figures if figure.verdict]
    load = [round(load, 2) for load in os.getloadavg()]
    print(
        f"\n{len(with_target) - len(missed)} of {len(with_target)} targets met; "
        f"load average now {load}"
    )
    for figure in missed:
        print(f"  missed: {figure.group}, {figure.name}")
    if path is not None:
        values = {
            **machine,
            "load_after": load,
            "figures": [figure.as_json() for figure in all_figures],
        }
        path.write_text(json.dumps(values, indent=1) + "\n")
