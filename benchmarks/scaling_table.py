"""Scaling of calls over threads and processes: `python benchmarks/scaling_table.py`.

It prints the tables of docs/scaling.md, and writes a file of results. With --page, it also puts
the tables into the page.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks import scaling_cases, scaling_runs, suite

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "scaling.md"
ROUNDS = 11
SECONDS = 0.2
MARKS = ("<!-- scaling: table -->", "<!-- scaling: end -->")


def main() -> None:
    """Run the cases, print the tables and write the results."""
    parser = argparse.ArgumentParser(prog="benchmarks/scaling_table.py", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="seconds of each run")
    parser.add_argument("--only", default="", help="run only cases whose names begin with this")
    parser.add_argument("--json", type=Path, help="the file of results (default: in results/)")
    parser.add_argument("--page", action="store_true", help="put the tables into docs/scaling.md")
    options = parser.parse_args()
    if options.only and options.page:
        parser.error("--page needs all cases: omit --only")
    machine = suite.describe_machine()
    results: list[tuple[str, scaling_runs.Runs]] = []
    for name in scaling_cases.CASES:
        if name.startswith(options.only):
            print(name, file=sys.stderr, flush=True)
            runs = scaling_runs.run_case(name, options.rounds, options.seconds)
            results.append((name, runs))
    load = suite.describe_machine()["load"]
    text = describe_run(machine, load, options.rounds, options.seconds)
    text += "\n\n" + scaling_runs.render_table(results)
    print(text)
    if options.page:
        PAGE.write_text(replace_table(PAGE.read_text(), text))
    figures = [
        figure.as_json()
        for name, runs in results
        for figure in scaling_runs.make_figures(name, runs)
    ]
    date = time.strftime("%Y-%m-%d", time.gmtime())
    name = "scaling-part" if options.only else "scaling"
    path = options.json or RESULTS / f"{name}-{date}.json"
    values = {**machine, "load_after": load, "figures": figures}
    path.write_text(json.dumps(values, indent=1) + "\n")


def describe_run(machine: dict[str, Any], load: list[float], rounds: int, seconds: float) -> str:
    """Return a sentence about the machine of a run."""
    return (
        f"{machine['date']}, {machine['processor']}, {machine['cores']} processors, Python "
        f"{machine['python']}, wasmtime {machine['wasmtime']}; medians of {rounds} rounds of "
        f"{seconds:g} s; load average {machine['load'][0]} before and {load[0]} after."
    )


def replace_table(page: str, text: str) -> str:
    """Return the page with other tables between its marks."""
    before, _, rest = page.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    return f"{before}{MARKS[0]}\n\n{text}\n\n{MARKS[1]}{after}"


if __name__ == "__main__":
    main()
