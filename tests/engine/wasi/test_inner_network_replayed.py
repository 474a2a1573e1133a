"""Random histories of epoll sets and sockets inside a guest: replayed, resumed and restored."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import journal
from journal.engine import ExitKind, NetworkPolicy, RunResult, SnapshotOptions
from journal.engine.wasi.descriptors import OutputStream
from journal.engine.wasi.network.guest_network import GuestNetwork
from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.epoll_machines import ADD, DELETE, IN, MODIFY, ONESHOT, OUT, RDHUP
from tests.support.guest_epolls import ROOM, control, create, pack_event, read, unix, wait, write
from tests.support.guest_objects import GuestObjects
from tests.support.local_guest import LocalGuest
from tests.support.remote_guest import (
    ANSWER_SIZE,
    DATA,
    END,
    REMOTE_ALONE,
    Answer,
    encode_order,
    parse_answer,
)
from tests.support.rewrites import keep_first, rewrite
from tests.support.snapshot_runs import snapshots_in
from tests.support.wasix_sockets import DGRAM, INET4, STREAM, UNIX, inet4

pytestmark = pytest.mark.deep

FIRST = 4
LOOPBACK = NetworkPolicy.parse(["loopback"])
AFTER_EACH_CALL = SnapshotOptions(every_events=1)
ENDED = RunResult(ExitKind.EXITED, 0)
KINDS = ((INET4, STREAM), (UNIX, STREAM), (INET4, DGRAM), (UNIX, DGRAM), (UNIX, 4))
EVENT_SIZE = len(pack_event(0))

CHOICES = st.integers(0, 255)
HISTORIES = st.lists(st.tuples(st.integers(0, 12), CHOICES, CHOICES), min_size=5, max_size=45)
History = list[tuple[int, int, int]]


def address_of(family: int, kind: int, other: int = 0) -> bytes:
    """Return the address of the listener of a kind, or another one that is free at first."""
    if family == INET4:
        return inet4(7000 + 2 * kind + other)
    return unix((b"/run/%d" if other else b"\0run/%d") % kind)


class Script:
    """Orders for a guest, and the answers of the functions that it calls.

    Nothing waits: all sockets have NONBLOCK. A set has at most as many watches as an answer has
    room for, because the order of events may be another one after a resume.
    """

    def __init__(self, history: History) -> None:
        self.orders, self.answers = b"", list[Answer]()
        self._local = LocalGuest()
        context = self._local.context
        for fd in range(FIRST):
            context.descriptors.add(OutputStream(fd, False))
        context.network = GuestNetwork(context.tape, context.descriptors, policy=LOOPBACK)
        GuestObjects(self.call).block_signals()
        self._epfd = create(self.call)
        self._sockets: list[tuple[int, int, int]] = []
        self._watches = 0
        for family, kind in KINDS:
            fd = self._open(family, kind)
            self.call("sock_bind", fd, DATA, data=address_of(family, kind))
            self.call("sock_listen", fd, 2)
        self._listeners = self._sockets[:]
        for step, one, two in history:
            self._make_step(step, one, two)
        wait(self.call, self._epfd)
        self._local.end()
        context.network.close()
        self.orders += END

    def call(self, name: str, *arguments: int, data: bytes = b"") -> Answer:
        self.orders += encode_order(name, *arguments, data=data)
        self.answers.append(self._local(name, *arguments, data=data))
        return self.answers[-1]

    def _make_step(self, step: int, one: int, two: int) -> None:
        call = self.call
        if not self._sockets or step == 0:
            self._open(*KINDS[one % len(KINDS)])
            return
        fd, family, kind = self._sockets[one % len(self._sockets)]
        if step < 5:
            self._use_address(step, fd, family, kind, two)
        elif step == 5:
            fd, family, kind = self._listeners[one % len(self._listeners)]
            accepted = call("sock_accept_v2", fd, 4, DATA, DATA + 4)
            if not accepted.errno:
                self._add(accepted.number, family, kind)
        elif step == 6:
            write(call, fd, bytes([two]) * (two % 60 + 1))
        elif step == 7:
            read(call, fd, two % 64 + 1)
        elif step == 8:
            call("fd_close", fd)
            self._sockets.remove((fd, family, kind))
        elif step == 9:
            self._watch(fd, two)
        else:
            self._ask(step, fd, two)

    def _use_address(self, step: int, fd: int, family: int, kind: int, two: int) -> None:
        address = address_of(family, kind, two % 5 // 4)
        if step == 1:
            self.call("sock_bind", fd, DATA, data=address)
        elif step == 2:
            self.call("sock_listen", fd, two % 3)
        else:
            self.call("sock_connect", fd, DATA, data=address)

    def _ask(self, step: int, fd: int, two: int) -> None:
        if step == 10:
            self.call("sock_shutdown", fd, two % 3 + 1)
        elif step == 11:
            self.call("sock_status", fd, DATA)
            self.call("sock_get_opt_size", fd, 11, DATA)
        else:
            wait(self.call, self._epfd)

    def _open(self, family: int, kind: int) -> int:
        fd = self.call("sock_open", family, kind, 0, DATA).number
        self._add(fd, family, kind)
        return fd

    def _add(self, fd: int, family: int, kind: int) -> None:
        self.call("fd_fdstat_set_flags", fd, 4)
        self._sockets.append((fd, family, kind))

    def _watch(self, fd: int, two: int) -> None:
        operation = (ADD, ADD, MODIFY, DELETE)[two % 4]
        if operation == ADD and self._watches == ROOM:
            return
        events = (IN, OUT, IN | OUT, IN | RDHUP)[two // 4 % 4] | ONESHOT * (two // 16 % 2)
        if not control(self.call, self._epfd, operation, fd, events):
            self._watches += operation == ADD


def settle(answers: list[Answer]) -> list[tuple[int, object]]:
    """Return answers whose events are sorted, where they have some."""
    settled: list[tuple[int, object]] = []
    for answer in answers:
        parts = [answer.data[at : at + EVENT_SIZE] for at in range(0, 128, EVENT_SIZE)]
        has_events = any(struct.unpack_from("<II", part, 4)[1] == 7 for part in parts)
        settled.append((answer.errno, sorted(parts) if has_events else answer.data))
    return settled


def answers_in(printed: bytes) -> list[Answer]:
    ends = range(0, len(printed), ANSWER_SIZE)
    return [parse_answer(printed[at : at + ANSWER_SIZE]) for at in ends]


@given(history=HISTORIES, seed=st.integers(0, 1 << 32))
def test_a_history_is_the_same_from_each_snapshot_and_after_each_event(
    history: History, seed: int, tmp_path_factory: pytest.TempPathFactory, cache_dir: Path
) -> None:
    script, folder = Script(history), tmp_path_factory.mktemp("inside")
    path, choices = folder / "j", random.Random(seed)
    with journal.record(
        REMOTE_ALONE,
        path,
        stdin=script.orders,
        snapshots=AFTER_EACH_CALL,
        network=LOOPBACK,
        cache=cache_dir,
    ) as recorder:
        assert recorder.wait(DEADLINE_SECONDS) == ENDED
        printed = recorder.stdout
    assert settle(answers_in(printed)) == settle(script.answers)
    assert journal.verify_replay(path, cache=cache_dir).matches
    infos = snapshots_in(path)
    for info in choices.sample(infos, min(3, len(infos))):
        assert journal.verify_replay(path, start=info.seq, cache=cache_dir).matches
    with journal.Reader(path) as reader:
        count = sum(1 for _ in reader.frames())
    for at in choices.sample(range(infos[0].seq, count), 2):
        cut = rewrite(path, folder / f"cut {at}", keep_first(at))
        compacted = folder / f"compacted {at}"
        journal.compact(cut, compacted)
        for source, reexecute in ((cut, False), (cut, True), (compacted, False)):
            copy = rewrite(source, folder / f"{source.name} {reexecute}")
            with journal.resume(
                copy, stdin=script.orders, reexecute=reexecute, network=LOOPBACK, cache=cache_dir
            ) as recorder:
                assert recorder.wait(DEADLINE_SECONDS) == ENDED
                assert settle(answers_in(recorder.stdout)) == settle(script.answers)
