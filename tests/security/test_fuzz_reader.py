"""Mutated journals cause only errors of this library in readers and writers."""

import os
import random
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.security.fuzz_reader import Mutator, campaign, parsed, rebuild_journal, seeds
from tests.support.budget import Budget
from tests.support.plain_reader import NotReadable, reading

ROOT = Path(__file__).parents[2]
COUNT = 500
SECONDS = 60


def test_a_journal_taken_apart_and_put_together_is_the_same() -> None:
    for files in seeds():
        for data in files:
            built = b"".join(segment.build() for segment in parsed(data))
            try:
                rows = [row[1:4] for row in reading(data).rows]
            except NotReadable:
                continue
            if not reading(data).debris and not reading(data).torn and not reading(data).damage:
                assert [row[1:4] for row in reading(built).rows] == rows


@pytest.mark.deep
def test_mutations_get_past_the_hashes() -> None:
    believed = damaged = 0
    for number in range(200):
        try:
            found = reading(*rebuild_journal(1, number))
        except Exception:  # The mutant may be invalid, as intended.
            believed += 1
            continue
        believed += bool(found.rows)
        damaged += bool(found.damage)
    assert believed > 100
    assert damaged > 50


def test_a_seed_gives_the_same_journals_again() -> None:
    corpus = seeds()
    for number in (0, 7, 40):
        assert rebuild_journal(3, number) == Mutator(corpus, random.Random(f"3/{number}")).journal()


@pytest.mark.deep
def test_no_mutation_of_the_first_few_hundred_does_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fdatasync", lambda _: None)
    assert campaign(seed=20, count=COUNT) == COUNT


@pytest.mark.deep
def test_no_mutation_in_a_minute_does_harm(monkeypatch: pytest.MonkeyPatch, budget: Budget) -> None:
    monkeypatch.setattr(os, "fdatasync", lambda _: None)
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    assert campaign(seed, budget.seconds or SECONDS, COUNT) >= COUNT


@pytest.mark.deep
@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed")
def test_no_input_that_coverage_leads_to_does_harm(tmp_path: Path, budget: Budget) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.security.fuzz_reader",
        "--atheris",
        str(tmp_path / "corpus"),
    ]
    limits = [
        f"-max_total_time={int(budget.seconds) or SECONDS}",
        "-max_len=4096",
        f"-artifact_prefix={tmp_path}/",
    ]
    done = subprocess.run(
        [*command, *limits], cwd=ROOT, capture_output=True, text=True, check=False
    )
    found = [file.read_bytes().hex() for file in tmp_path.glob("crash-*")]
    assert done.returncode == 0, (found, done.stderr[-3000:])
