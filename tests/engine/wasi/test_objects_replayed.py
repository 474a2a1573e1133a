"""Random histories of objects inside a guest, replayed, resumed and restored from snapshots."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import journal
from journal.engine import SnapshotOptions
from journal.engine.wasi.descriptors import OutputStream
from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.guest_objects import ENDED, NONBLOCK, GuestObjects, answers_in
from tests.support.local_guest import LocalGuest
from tests.support.object_histories import HISTORIES, History
from tests.support.remote_guest import (
    END,
    REMOTE_ALONE,
    Answer,
    encode_order,
)
from tests.support.rewrites import keep_first, rewrite
from tests.support.snapshot_runs import snapshots_in

pytestmark = pytest.mark.deep

FIRST = 4
"""Descriptors below are the standard streams, by which the test talks to the guest, and a mount."""

AFTER_EACH_CALL = SnapshotOptions(every_events=1)


class AnsweredScript:
    """Orders for a guest, and the answers of the functions that it calls."""

    def __init__(self, history: History) -> None:
        self.orders, self.answers = b"", list[Answer]()
        self._local = LocalGuest()
        for fd in range(FIRST):
            self._local.context.descriptors.add(OutputStream(fd, False))
        guest = GuestObjects(self._call)
        guest.block_signals()
        for name, *arguments in history:
            if name in ("pipe", "event", "pair"):
                outcome = getattr(guest, str(name))(*arguments)
                for fd in outcome.value if name != "event" else ():
                    guest.set_flags(fd, NONBLOCK)
            else:
                getattr(guest, str(name))(*_raise_fds(str(name), arguments))
        self._local.end()
        self.orders += END

    def _call(self, name: str, *arguments: int, data: bytes = b"") -> Answer:
        self.orders += encode_order(name, *arguments, data=data)
        self.answers.append(self._local(name, *arguments, data=data))
        return self.answers[-1]


def _raise_fds(name: str, arguments: list[object]) -> list[object]:
    """Return the arguments of a call with descriptors from ``FIRST`` on."""
    count = 2 if name in ("renumber", "dup_from") else 1
    raised = [fd + FIRST for fd in arguments[:count] if isinstance(fd, int)]
    return [*raised, *arguments[count:]]


@given(history=HISTORIES, seed=st.integers(0, 1 << 32))
def test_a_history_is_the_same_from_each_snapshot_and_after_each_event(
    history: History, seed: int, tmp_path_factory: pytest.TempPathFactory, cache_dir: Path
) -> None:
    script, folder = AnsweredScript(history), tmp_path_factory.mktemp("objects")
    path, choices = folder / "j", random.Random(seed)
    with journal.record(
        REMOTE_ALONE, path, stdin=script.orders, snapshots=AFTER_EACH_CALL, cache=cache_dir
    ) as recorder:
        assert recorder.wait(DEADLINE_SECONDS) == ENDED
        printed = recorder.stdout
    assert answers_in(printed) == script.answers
    assert journal.verify_replay(path, cache=cache_dir).matches
    infos = snapshots_in(path)
    for info in choices.sample(infos, min(3, len(infos))):
        assert journal.verify_replay(path, start=info.seq, cache=cache_dir).matches
    with journal.Reader(path) as reader:
        count = sum(1 for _ in reader.frames())
    for at in choices.sample(range(infos[0].seq, count), 3):
        cut = rewrite(path, folder / f"cut {at}", keep_first(at))
        for is_compacted, reexecute in ((False, False), (False, True), (True, False)):
            copy = folder / f"cut {at} {is_compacted} {reexecute}"
            if is_compacted:
                journal.compact(cut, copy)
            else:
                rewrite(cut, copy)
            with journal.resume(
                copy, stdin=script.orders, reexecute=reexecute, cache=cache_dir
            ) as recorder:
                assert recorder.wait(DEADLINE_SECONDS) == ENDED
                assert recorder.stdout == printed
