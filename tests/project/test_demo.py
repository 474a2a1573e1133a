"""The demonstration runs to its end, and reports every difference between its two runs."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from demo.run import Day, list_differences
from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.programs import ROOT


@pytest.mark.deep
def test_the_demonstration_tells_its_story(quickjs: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "demo/run.py", str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    for text in (
        "after 12 of 24 orders",
        "after 18 of 24 orders",
        "871 bytes, the same",
        "17, the same",
        "$ journaltool info day.journal",
        "$ journaltool inspect day.journal",
        "$ journaltool verify day.journal",
        "The program was killed twice, and every byte of its results is the same.",
    ):
        assert text in done.stdout
    commands = re.findall(r"^    (\S*journaltool .*)$", done.stdout, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        pasted = subprocess.run(
            ["sh", "-c", command],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )
        assert (pasted.returncode, pasted.stderr) == (0, ""), command
        assert pasted.stdout
    assert all("day.journal" in command for command in commands)


def two_days(folder: Path) -> tuple[Day, Day]:
    """Return two days with the same results except for their tickets."""
    days = Day(folder / "calm", folder / "orders"), Day(folder / "killed", folder / "orders")
    for day, ticket in zip(days, ("01234567", "89abcdef"), strict=True):
        day.output.write_text(f"ticket {ticket}\n 1 bread\nticket {ticket} is still the same\n")
        day.errors.write_text("8 orders are done\n")
        (day.window / "01.txt").write_text("bread\n")
    return days


def test_days_that_differ_in_their_tickets_only_are_the_same(tmp_path: Path) -> None:
    assert list_differences(*two_days(tmp_path)) == []


@pytest.mark.parametrize(
    ("harm", "difference"),
    [
        (lambda day: (day.window / "01.txt").write_text("cake\n"), "window/01.txt differs"),
        (lambda day: (day.window / "01.txt").unlink(), "window/01.txt is missing"),
        (lambda day: (day.window / "02").write_text(""), "window/02 is unexpected"),
        (lambda day: day.errors.write_text("8\n8\n"), "errors differs"),
        (lambda day: day.output.write_text("ticket 01234567\n"), "output differs"),
        (
            lambda day: day.output.write_text(day.output.read_text().replace("f\n", "0\n")),
            "the output has 2 tickets, but one run draws only one",
        ),
    ],
)
def test_whatever_is_not_the_same_is_told(
    harm: Callable[[Day], object], difference: str, tmp_path: Path
) -> None:
    calm, killed = two_days(tmp_path)
    harm(killed)
    assert difference in list_differences(calm, killed)
