"""Every call of WASIX is answered as a real Wasmer answers it, but for a list of differences.

The guests `calls_*` print a line for each call. `wasix_differences.toml` has the lines that differ
on purpose, each with both answers, and the reason.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

import journal
from journal.engine import ALL_NETWORK
from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.killed_runs import CACHE
from tests.support.programs import guest
from tests.support.wasmer_oracle import END, Outcome, require_wasmer, run_with_wasmer

LIST = Path(__file__).with_name("wasix_differences.toml")

#: Arguments of each run. Its first word is the guest.
RUNS: dict[str, tuple[str, ...]] = {
    "calls_epoll": (),
    "calls_fd": (),
    "calls_port": (),
    "calls_proc": (),
    "calls_proc exec": ("exec",),
    "calls_proc fork": ("fork",),
    "calls_signal": (),
    "calls_sock": (),
}


def parse_lines(outcome: Outcome) -> dict[str, str]:
    """Return the answer of each call by its text. A repeated text gets a number."""
    seen: Counter[str] = Counter()
    answers = {"exit code": str(outcome.code)}
    for line in outcome.stdout.decode().splitlines():
        call, _, answer = line.partition(": ")
        seen[call] += 1
        answers[call if seen[call] == 1 else f"{call} #{seen[call]}"] = answer
    return answers


def find_differences(wasmer: Outcome, own: Outcome) -> dict[str, list[str]]:
    """Return the two answers of each call that differs."""
    first, second = parse_lines(wasmer), parse_lines(own)
    return {
        call: [first.get(call, "no line"), second.get(call, "no line")]
        for call in first | second
        if first.get(call) != second.get(call)
    }


def list_differences(run: str) -> Mapping[str, list[str]]:
    """Return the committed differences of a run."""
    groups = tomllib.loads(LIST.read_text())["difference"]
    assert all(group["reason"].endswith(".") for group in groups)
    found: dict[str, list[str]] = {}
    for group in groups:
        if group["run"] == run:
            assert not found.keys() & group["answers"].keys()
            found |= group["answers"]
    return found


def record_guest(name: str, arguments: tuple[str, ...], path: Path) -> Outcome:
    """Run a guest under this engine, and return how it ended. Its replay agrees."""
    with journal.record(
        guest(name), path, args=[name, *arguments], network=ALL_NETWORK, cache=CACHE
    ) as recorder:
        outcome = recorder.wait(DEADLINE_SECONDS)
        assert outcome is not None, recorder.stdout.decode()
        output = recorder.stdout
    verified = journal.verify_replay(path, cache=CACHE)
    assert verified.divergence is None
    return Outcome(outcome.code, output)


@pytest.mark.deep
@pytest.mark.parametrize("run", RUNS)
def test_the_answers_of_wasmer_differ_only_where_the_list_says_so(run: str, tmp_path: Path) -> None:
    require_wasmer()
    name, arguments = run.split()[0], RUNS[run]
    expected = run_with_wasmer(guest(name), arguments, tmp_path / "wasmer")
    own = record_guest(name, arguments, tmp_path / "own.journal")
    assert find_differences(expected, own) == list_differences(run)
    assert (END in own.stdout.decode().splitlines()) == (name != "calls_proc")


def test_the_list_of_differences_names_runs_that_exist() -> None:
    groups = tomllib.loads(LIST.read_text())["difference"]
    assert {group["run"] for group in groups} <= RUNS.keys()
    assert all(one != two for group in groups for one, two in group["answers"].values())
