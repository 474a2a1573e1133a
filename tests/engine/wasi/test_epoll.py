"""Epoll sets of a guest: errors, sockets of the host, standard input, waits, snapshots."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

import journal
from journal.engine import ALL_NETWORK, ExitKind, RunResult, SnapshotOptions
from journal.engine.wasi.functions.epolls import pack_result, unpack_result
from journal.engine.wasi.objects import epoll as epolls
from journal.engine.wasi.objects.epoll_nesting import NESTED_MAX
from journal.errors import NotResumable
from journal.events.inputs import EpollResult, ReadyDescriptor
from journal.events.snapshots import Trigger
from journal.wasi_abi import Errno
from tests.support.deadlines import DEADLINE_SECONDS, wait_until
from tests.support.epoll_machines import (
    ADD,
    DELETE,
    EDGE,
    ERR,
    HUP,
    IN,
    MODIFY,
    ONESHOT,
    OUT,
    RDHUP,
    GuestMachine,
)
from tests.support.guest_epolls import (
    FOREVER,
    MILLISECOND,
    accept,
    control,
    create,
    read,
    wait,
    write,
)
from tests.support.local_guest import LocalGuest
from tests.support.remote_guest import ANSWER_SIZE, DATA, REMOTE, Remote, encode_order
from tests.support.rewrites import events_of, replace_event, rewrite
from tests.support.snapshot_runs import snapshots_in
from tests.support.wasix_sockets import answers_in, listen, resume_remote
from tests.support.wat import module

EXPLICIT = SnapshotOptions(on=frozenset({Trigger.EXPLICIT}))


@pytest.fixture
def guest() -> Iterator[LocalGuest]:
    local = LocalGuest()
    yield local
    local.end()


@pytest.fixture(scope="module")
def recorder(
    tmp_path_factory: pytest.TempPathFactory, cache_dir: Path
) -> Iterator[journal.Recorder]:
    """Run a recorded guest that may use the network of the host, for all tests."""
    path = tmp_path_factory.mktemp("epoll") / "j"
    with journal.record(REMOTE, path, network=ALL_NETWORK, cache=cache_dir) as recorder:
        yield recorder
        Remote(recorder).end()
    assert journal.verify_replay(path, cache=cache_dir).matches


@pytest.fixture
def live(recorder: journal.Recorder) -> Remote:
    return Remote(recorder)


# -- errors ---------------------------------------------------------------------------------------


def test_wrong_watches_are_refused(guest: LocalGuest) -> None:
    epfd, pipe = create(guest), guest("fd_pipe", DATA, DATA + 4).number
    refused = {
        (epfd, ADD, 99): Errno.BADF,
        (99, ADD, pipe): Errno.BADF,
        (pipe, ADD, epfd): Errno.INVAL,
        (epfd, ADD, epfd): Errno.INVAL,
        (epfd, 3, pipe): Errno.INVAL,
        (epfd, MODIFY, pipe): Errno.NOENT,
        (epfd, DELETE, pipe): Errno.NOENT,
    }
    assert {key: control(guest, *key, IN) for key in refused} == refused
    assert guest("epoll_ctl", epfd, ADD, pipe, 0).errno == Errno.INVAL
    assert control(guest, epfd, ADD, pipe, IN) == 0
    assert control(guest, epfd, ADD, pipe, IN) == Errno.EXIST
    assert guest("epoll_ctl", epfd, DELETE, pipe, 0).errno == 0
    for count in (0, 1 << 31):
        assert guest("epoll_wait", epfd, DATA, count, 0, 4000).errno == Errno.INVAL
    assert guest("epoll_wait", pipe, DATA, 1, 0, 4000).errno == Errno.INVAL
    assert read(guest, epfd)[0] == write(guest, epfd, b"12345678") == Errno.INVAL


def test_files_and_directories_cannot_be_watched(live: Remote) -> None:
    epfd = create(live)
    assert control(live, epfd, ADD, 3, IN) == Errno.PERM
    assert live("fd_close", epfd).errno == 0


def test_sets_cannot_watch_each_other_in_a_circle_or_too_deep(guest: LocalGuest) -> None:
    chain = [create(guest) for _ in range(NESTED_MAX + 1)]
    for inner, outer in pairwise(chain[:-1]):
        assert control(guest, outer, ADD, inner, IN) == 0
    assert control(guest, chain[-1], ADD, chain[-2], IN) == Errno.LOOP
    assert control(guest, chain[0], ADD, chain[-2], IN) == Errno.LOOP
    assert control(guest, chain[0], ADD, chain[-1], IN) == Errno.LOOP


def test_the_watches_of_all_sets_have_a_limit(
    guest: LocalGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epolls, "WATCHES_MAX", 3)
    one, other, counter = create(guest), create(guest), guest("fd_event", 0, 0, DATA).number
    assert control(guest, one, ADD, counter, IN) == control(guest, other, ADD, counter, IN) == 0
    assert control(guest, one, ADD, other, IN) == 0
    spare = guest("fd_event", 0, 0, DATA).number
    assert control(guest, one, ADD, spare, IN) == Errno.NOSPC
    assert guest("fd_close", counter).errno == 0
    assert control(guest, one, ADD, spare, IN) == 0


def test_a_set_finds_few_events_among_many_watches() -> None:
    machine = GuestMachine()
    machine.epoll(0)
    for fd in range(1, 1001):
        machine.counter(fd, 0)
        assert machine.control(0, ADD, fd, IN | EDGE) == ""
    for _ in range(2):  # A waker counts up, and nobody reads the counter.
        machine.write(500, (1).to_bytes(8, "little"))
        machine.write(700, (1).to_bytes(8, "little"))
        assert machine.wait(0) == [(500, IN), (700, IN)]
        assert machine.wait(0) == []
    machine.end()


# -- the host -------------------------------------------------------------------------------------


def test_new_bytes_of_a_socket_of_the_host_are_a_new_edge(live: Remote) -> None:
    (listener, port), epfd = listen(live), create(live)
    assert control(live, epfd, ADD, listener, IN) == 0
    assert wait(live, epfd) == []
    with socket.create_connection(("127.0.0.1", port), DEADLINE_SECONDS) as client:
        assert wait(live, epfd, FOREVER) == wait(live, epfd) == [(listener, IN)]
        accepted = accept(live, listener)
        copied = live("fd_dup", accepted, DATA).number
        for fd in (accepted, copied):
            assert control(live, epfd, ADD, fd, IN | RDHUP | EDGE) == 0
        assert wait(live, epfd) == []
        for byte in (b"1", b"2"):  # The first is not read before the second comes.
            client.sendall(byte)
            found: set[tuple[int, int]] = set()
            while len(found) < 2:
                found |= set(wait(live, epfd, FOREVER))
            assert found == {(accepted, IN), (copied, IN)}
            assert wait(live, epfd) == []
        assert control(live, epfd, MODIFY, copied, IN | OUT | ONESHOT) == 0
        assert wait(live, epfd) == [(copied, IN | OUT)]
        assert wait(live, epfd) == []
        client.shutdown(socket.SHUT_WR)
        assert wait(live, epfd, FOREVER) == [(accepted, IN | RDHUP)]
        assert read(live, accepted) == (0, b"12")
    for fd in (accepted, copied, listener, epfd):
        assert live("fd_close", fd).errno == 0


def test_a_set_waits_for_standard_input_and_for_a_time(live: Remote) -> None:
    epfd = create(live)
    assert control(live, epfd, ADD, 0, IN) == control(live, epfd, ADD, 1, OUT | ONESHOT) == 0
    assert wait(live, epfd, FOREVER) == [(1, OUT)]
    assert wait(live, epfd, MILLISECOND) == []
    printed = len(live.recorder.stdout)
    live.recorder.feed(encode_order("epoll_wait", epfd, DATA, 4, FOREVER, 4000))
    live.recorder.feed(encode_order("fd_close", epfd))  # It ends the wait.
    wait_until(lambda: len(live.recorder.stdout) == printed + 2 * ANSWER_SIZE)
    waited, closed = answers_in(live.recorder.stdout[printed:])
    assert (waited.errno, waited.number, closed.errno) == (0, IN, 0)


# -- snapshots and damage -------------------------------------------------------------------------


def test_a_restored_set_is_the_same(tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "j"
    with journal.record(REMOTE, path, snapshots=EXPLICIT, cache=cache_dir) as recorder:
        guest = Remote(recorder)
        epfd, silent = create(guest), guest("fd_event", 0, 0, DATA).number
        once, edge = (guest("fd_event", 1, 0, DATA).number for _ in range(2))
        old = guest("fd_event", 1, 0, DATA).number
        assert control(guest, epfd, ADD, silent, IN) == control(guest, epfd, ADD, old, IN) == 0
        assert control(guest, epfd, ADD, once, IN | ONESHOT) == 0
        assert control(guest, epfd, ADD, edge, IN | EDGE) == 0
        copied = guest("fd_dup", old, DATA).number
        assert guest("fd_close", old).errno == 0
        new = guest("fd_event", 1, 0, DATA).number
        assert new == old, "the number stands for two objects of the set"
        assert control(guest, epfd, ADD, new, IN | ONESHOT) == 0
        assert len(wait(guest, epfd)) == 4
        assert wait(guest, epfd) == [(old, IN)]
        assert guest("proc_snapshot").errno == 0
        assert wait(guest, epfd) == [(old, IN)]
    assert journal.verify_replay(path, cache=cache_dir).matches
    (info,) = snapshots_in(path)
    assert journal.verify_replay(path, start=info.seq, cache=cache_dir).matches
    with journal.resume(path, cache=cache_dir) as recorder:
        again = resume_remote(recorder)
        assert set(wait(again, epfd)) <= {(old, IN), (edge, IN)}, "an edge may come twice"
        assert wait(again, epfd) == [(old, IN)]
        assert write(again, silent, (1).to_bytes(8, "little")) == 0
        assert wait(again, epfd) == sorted([(silent, IN), (old, IN)])
        assert control(again, epfd, MODIFY, once, IN | ONESHOT) == 0
        assert (once, IN) in wait(again, epfd)
        assert again("fd_close", copied).errno == 0
        assert wait(again, epfd) == [(silent, IN)]
        again.end()


def test_a_resumed_set_reports_lost_connections_and_new_ones(
    tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "j"
    with journal.record(REMOTE, path, network=ALL_NETWORK, cache=cache_dir) as recorder:
        guest = Remote(recorder)
        (listener, port), epfd = listen(guest), create(guest)
        with socket.create_connection(("127.0.0.1", port), DEADLINE_SECONDS):
            accepted = accept(guest, listener)
            for fd in (listener, accepted):
                assert control(guest, epfd, ADD, fd, IN | EDGE) == 0
            assert wait(guest, epfd) == []
    with journal.resume(path, network=ALL_NETWORK, cache=cache_dir) as recorder:
        again = resume_remote(recorder)
        ((fd, events),) = wait(again, epfd, FOREVER)
        assert (fd, events & (IN | ERR | HUP)) == (accepted, IN | ERR | HUP)
        assert read(again, accepted)[0] == Errno.CONNRESET
        with socket.create_connection(("127.0.0.1", port), DEADLINE_SECONDS):
            assert wait(again, epfd, FOREVER) == [(listener, IN)]
        again.end()


WAITING = module("""(module
    (import "wasix_32v1" "epoll_create" (func $create (param i32) (result i32)))
    (import "wasix_32v1" "epoll_ctl" (func $control (param i32 i32 i32 i32) (result i32)))
    (import "wasix_32v1" "epoll_wait" (func $wait (param i32 i32 i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1) (data (i32.const 64) "\\01")
    (func (export "_start")
        (drop (call $create (i32.const 0)))
        (drop (call $control (i32.load (i32.const 0)) (i32.const 0) (i32.const 0) (i32.const 64)))
        (drop (call $wait (i32.load (i32.const 0)) (i32.const 128) (i32.const 4) (i64.const -1)
            (i32.const 8)))
        (call $exit (i32.add (i32.const 40) (i32.load (i32.const 8))))))""")


def test_a_waiting_set_can_be_suspended_and_waits_again(tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "j"
    with journal.record(WAITING, path, snapshots=EXPLICIT, cache=cache_dir) as recorder:
        for _ in range(2):
            assert recorder.snapshot(timeout_seconds=DEADLINE_SECONDS) is not None
    assert not any(isinstance(event, EpollResult) for event in events_of(path))
    assert journal.verify_replay(path, cache=cache_dir).matches
    with journal.resume(path, cache=cache_dir) as recorder:
        recorder.feed(b"x")
        assert recorder.wait(DEADLINE_SECONDS) == RunResult(ExitKind.EXITED, 41)


def test_the_fast_payload_of_a_result_is_that_of_the_codec() -> None:
    for ready in ([], [(5, IN)], [(5, IN), (6 | 1 << 16, OUT)]):
        result = EpollResult(epfd=4, ready=tuple(ReadyDescriptor(*each) for each in ready))
        assert pack_result(4, ready) == journal.encode(result)
        assert unpack_result(journal.encode(result)) == ready
    with pytest.raises(ValueError, match="does not have"):
        unpack_result(pack_result(4, [(5, IN)]) + b"more")


@pytest.mark.parametrize(
    "ready",
    [
        (ReadyDescriptor(3, IN),),
        (ReadyDescriptor(5, 0),),
        (ReadyDescriptor(5, OUT),),
        (ReadyDescriptor(5 | 1 << 16, IN),),
        (ReadyDescriptor(5, IN),) * 5,
    ],
)
def test_a_forged_result_is_refused(
    ready: tuple[ReadyDescriptor, ...], forged: Path, tmp_path: Path, cache_dir: Path
) -> None:
    at = next(n for n, event in enumerate(events_of(forged)) if isinstance(event, EpollResult))
    result = EpollResult(epfd=4, ready=ready)
    path = rewrite(forged, tmp_path / "j", partial(replace_event, index=at, event=result))
    with (
        pytest.raises(NotResumable, match="not a valid result"),
        journal.resume(path, cache=cache_dir) as recorder,
    ):
        recorder.wait(DEADLINE_SECONDS)


@pytest.fixture(scope="module")
def forged(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Path:
    """Return a journal with one result of epoll, to be forged."""
    path = tmp_path_factory.mktemp("forged") / "j"
    with journal.record(REMOTE, path, cache=cache_dir) as recorder:
        guest = Remote(recorder)
        epfd, counter = create(guest), guest("fd_event", 1, 0, DATA).number
        assert (epfd, counter) == (4, 5)
        assert control(guest, epfd, ADD, counter, IN) == 0
        assert wait(guest, epfd) == [(counter, IN)]
    return path
