"""Kill campaign with signals: a resumed guest gets its signals at the same calls after any crash.

The guest makes calls of many kinds, waits included, and sums up where each signal came between
them. Real signals arrive at random moments, and SIGKILL too. A replay then has to come to the same
sums at each snapshot and at the end, and the output has every line once.
"""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from journal.compaction import RetentionPolicy, compact
from journal.engine import verify_replay
from journal.events.inputs import SignalDelivered
from journal.events.streams import StreamWrite
from tests.support.budget import Budget
from tests.support.command_line import build_command, build_environment
from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.killed_runs import CACHE
from tests.support.programs import guest
from tests.support.rewrites import events_of
from tests.support.snapshot_runs import snapshots_in

pytestmark = pytest.mark.deep

SENT = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGTERM, signal.SIGINT)
FORWARDED = ("--forward-signals", "USR1,USR2,HUP,TERM,INT")
STEPS = "300"
WAYS = (
    ("--no-snapshots",),
    ("--snapshot-on", "explicit"),
    ("--snapshot-events", "25"),
    ("--snapshot-events", "40", "--safe-points", "loops"),
    ("--snapshot-events", "40", "--stacks", "never"),
    ("--snapshot-on", "sigint", "--snapshot-on", "sigalrm"),
)
KILLS_MAX = 3
CASES = [(seed, way) for seed in range(40) for way in WAYS]


def start(folder: Path, chance: random.Random, way: tuple[str, ...]) -> subprocess.Popen[bytes]:
    """Start the guest, or resume it if it has a journal."""
    path = folder / "j"
    command = ["resume", *FORWARDED, str(path)]
    if not path.exists():
        seed = str(chance.randrange(1 << 20))
        options = ["-j", str(path), "--durability", chance.choice(["output", "none"]), *way]
        command = ["run", *FORWARDED, *options, str(guest("signals")), "mix", STEPS, seed]
    with (folder / "out").open("ab") as output, (folder / "err").open("ab") as errors:
        return subprocess.Popen(
            build_command(*command),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            env=build_environment(),
        )


def disturb(process: subprocess.Popen[bytes], chance: random.Random, seconds: float | None) -> None:
    """Send signals to a process until it ends; kill it after some time, or never."""
    begin = time.monotonic()
    while process.poll() is None:
        elapsed = time.monotonic() - begin
        assert elapsed < DEADLINE_SECONDS, "the guest does not come to its end"
        if seconds is not None and elapsed >= seconds:
            process.kill()
        elif handles_signals(process.pid):
            process.send_signal(chance.choice(SENT))
        time.sleep(chance.random() * 0.02)


def handles_signals(pid: int) -> bool:
    """Return whether a process handles forwarded signals; another one would end."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> signal.SIGUSR2 - 1 & 1)


def run_trial(folder: Path, seed: int, way: tuple[str, ...]) -> int:
    """Run a guest with signals and kills, check its journal, and return how many signals came."""
    chance = random.Random(f"{seed} {way}")
    for _ in range(chance.randint(0, KILLS_MAX)):
        disturb(start(folder, chance, way), chance, 0.3 + chance.random())
    while True:
        process = start(folder, chance, way)
        disturb(process, chance, None)
        if process.returncode == 0:
            break
        # A signal came before the handler was set, or a second one stopped the guest.
        assert process.returncode in {128 + number for number in SENT}, (folder / "err").read_text()
    events = events_of(folder / "j")
    written = b"".join(event.data for event in events if isinstance(event, StreamWrite))
    assert (folder / "out").read_bytes() == written
    assert written.splitlines()[-1].startswith(b"end ")
    replay = verify_replay(folder / "j", cache=CACHE)
    assert replay.matches, (replay.divergence, replay.checks)
    assert verify_replay(folder / "j", cache=CACHE, from_each_snapshot=True).matches
    if any(info.resumable for info in snapshots_in(folder / "j")):
        check_compacted(folder)
    return sum(isinstance(each, SignalDelivered) and not each.expired for each in events)


def check_compacted(folder: Path) -> None:
    """Compact a journal, and check that the guest comes from its last snapshot to the same end."""
    small = folder / "small"
    compact(folder / "j", small, policy=RetentionPolicy(keep_last=2))
    last = snapshots_in(small)[-1]
    assert verify_replay(small, start=last.seq, cache=CACHE).matches


def test_signals_come_at_the_same_calls_after_any_crash(tmp_path: Path, budget: Budget) -> None:
    count = 0
    for number, (seed, way) in enumerate(budget.spend(CASES, 2)):
        folder = tmp_path / str(number)
        folder.mkdir()
        count += run_trial(folder, seed, way)
    assert count
