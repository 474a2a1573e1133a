"""Objects inside the guest in snapshots, and in calls that wait."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

import journal
from journal.engine.snapshot.contents import apply_contents
from journal.engine.wasi.call_context import CallContext
from journal.events.core import Clock, SetClockTime
from journal.events.descriptors import OpenFileDescriptorWithFlags
from journal.events.inputs import HostResult
from journal.events.paths import ChangeDirectory
from journal.events.snapshots import DescriptorContents, Trigger
from journal.replay import ModelHost, play
from journal.wasi_abi import Errno, WasiError
from tests.support.deadlines import DEADLINE_SECONDS, wait_until
from tests.support.guest_objects import (
    DATAGRAM,
    NONBLOCK,
    RIGHTS,
    ROOT_FD,
    SEQPACKET,
    STREAM,
    GuestObjects,
    Script,
    answers_in,
    fd_of,
    fds,
    make_tree,
    number,
)
from tests.support.local_guest import LocalGuest
from tests.support.remote_guest import (
    ANSWER_SIZE,
    DATA,
    END,
    REMOTE_ALONE,
)
from tests.support.rewrites import events_of
from tests.support.snapshot_runs import snapshots_in


def make_script() -> bytes:
    """Return orders that leave bytes in every kind of object, and read them later."""
    script = Script()
    guest = script.guest
    guest.pipe()  # 4, 5
    guest.write(5, b"in the pipe")
    guest.event(7, 1)  # 6
    guest.pair(DATAGRAM)  # 7, 8
    guest.write(7, b"message")
    guest.write(7, b"")
    guest.pair()  # 9, 10
    guest.write(9, b"unread")
    guest.write(10, b"to nine")
    guest.close(10)  # Descriptor 9 is reset, after its bytes.
    guest.dup_from(5, 20, cloexec=True)
    guest.close(5)
    guest.dup(20)  # 5
    guest.set_flags(4, NONBLOCK)
    guest.call("path_open2", ROOT_FD, 1, DATA, 4, 1, RIGHTS, RIGHTS, 0, 1, DATA, data=b"file")
    guest.dup(10)  # 11, of the file
    guest.write(10, b"0123456789")
    guest.call("fd_seek", 11, 3, 0, DATA)
    make_tree(guest)
    guest.chdir(b"link")
    guest.call("clock_time_set", 0, 1_000_000)
    guest.call("proc_snapshot")
    guest.read(4, 5)
    guest.read(6, 8)
    for _ in range(2):
        guest.read(8, 100)
        guest.read(9, 100)
    guest.read(10, 4)
    guest.read(11, 4)
    guest.read(4, 100)
    guest.read(4, 100)
    guest.getcwd()
    guest.chdir(b"..")
    guest.getcwd()
    guest.fd_flags(20)
    guest.fd_flags(10)
    guest.pipe()  # 12, 13
    guest.renumber(12, 4)
    guest.close(12)
    guest.write(13, b"renumbered")
    guest.read(4, 100)
    return script.orders + END


def record_script(path: Path, cache: Path, options: journal.engine.SnapshotOptions) -> bytes:
    """Record the script and return what the guest printed."""
    with journal.record(
        REMOTE_ALONE,
        path,
        mounts=[journal.engine.MemoryMount("/")],
        stdin=make_script(),
        snapshots=options,
        cache=cache,
    ) as recorder:
        assert recorder.wait(DEADLINE_SECONDS) == journal.engine.RunResult(
            journal.engine.ExitKind.EXITED, 0
        )
        return recorder.stdout


def test_objects_keep_their_contents_in_a_snapshot(tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "j"
    on_request = journal.engine.SnapshotOptions(on=frozenset({Trigger.EXPLICIT}))
    printed = record_script(path, cache_dir, on_request)
    answers = answers_in(printed)
    assert {answer.errno for answer in answers} == {0, Errno.AGAIN, Errno.CONNRESET}
    with journal.Reader(path) as reader:
        (info,) = journal.snapshots.list_snapshots(reader)
    events = events_of(path)
    contents = [event for event in events if isinstance(event, DescriptorContents)]
    assert [(event.fd, event.value, event.parts) for event in contents] == [
        (4, 0, (b"in the pipe",)),
        (8, 0, (b"", b"message", b"", b"")),
        (9, 0, (b"to nine",)),
    ]
    assert contents[2].flags == Errno.CONNRESET << 16
    for start in (None, info.seq):
        assert journal.verify_replay(path, start=start, cache=cache_dir).matches
    host = ModelHost()
    with journal.Reader(path) as reader:
        play(reader.frames(), host)
    assert host.process.working_directory == "/dir"
    paths = [event.path for event in events if isinstance(event, ChangeDirectory)]
    assert paths == ["/dir/inner", "/dir"]
    assert SetClockTime(clock_id=Clock.REALTIME, time=1_000_000) in events
    flags = [event.fd_flags for event in events if isinstance(event, OpenFileDescriptorWithFlags)]
    assert flags == [1]


# -- waits --------------------------------------------------------------------------------------

WAITING = journal.engine.SnapshotOptions(
    on=frozenset({Trigger.EXPLICIT}), stacks=journal.engine.Stacks.ALWAYS
)


def feed_a_waiting_call(recorder: journal.Recorder, order: Callable[[GuestObjects], object]) -> int:
    """Let the guest make a pipe, 4 and 5, and a call that waits; return the snapshot there."""
    script = Script()
    script.guest.pipe()
    order(script.guest)
    recorder.feed(script.orders)
    wait_until(lambda: len(recorder.stdout) == ANSWER_SIZE)
    seq = None
    while seq is None or snapshot_at(recorder.path, seq).calls < CALLS_BEFORE_WAIT:
        seq = recorder.snapshot(timeout_seconds=DEADLINE_SECONDS)
    return seq


CALLS_BEFORE_WAIT = 5
"""Number of the call that waits: after two reads of orders, the pipe, and one answer."""


def snapshot_at(path: Path, seq: int) -> journal.snapshots.SnapshotInfo:
    return next(info for info in snapshots_in(path) if info.seq == seq)


@pytest.mark.parametrize(
    ("order", "function", "contents"),
    [
        pytest.param(lambda guest: guest.read(4, 10), "fd_read", [], id="read"),
        pytest.param(
            lambda guest: guest.write_zeros(5, 98304),
            "fd_write",
            [(4, 0, 65536), (5, 65536, 0)],
            id="write",
        ),
    ],
)
def test_a_guest_that_waits_for_itself_waits_again_after_a_resume(
    order: Callable[[GuestObjects], object],
    function: str,
    contents: list[tuple[int, int, int]],
    tmp_path: Path,
    cache_dir: Path,
) -> None:
    path = tmp_path / "j"
    with journal.record(REMOTE_ALONE, path, snapshots=WAITING, cache=cache_dir) as recorder:
        seq = feed_a_waiting_call(recorder, order)
        assert snapshot_at(path, seq).function == function
    events = [event for event in events_of(path) if isinstance(event, DescriptorContents)]
    found = [(event.fd, event.value, sum(map(len, event.parts))) for event in events]
    assert found == contents
    for reexecute in (False, True):
        with journal.resume(path, reexecute=reexecute, cache=cache_dir) as recorder:
            assert recorder.wait(0.05) is None, "the guest waits"
            recorder.stop()
            assert recorder.wait(DEADLINE_SECONDS) == journal.engine.RunResult(
                journal.engine.ExitKind.STOPPED
            )
    assert not [event for event in events_of(path) if isinstance(event, HostResult)]
    assert journal.verify_replay(path, start=seq, cache=cache_dir).matches


def test_a_signal_ends_a_wait_and_what_was_written_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*given: object, **options: object) -> bool:
        raise WasiError(Errno.INTR)

    monkeypatch.setattr(CallContext, "wait", interrupt)
    local = LocalGuest()
    guest = GuestObjects(local)
    reader, writer = fds(guest.pipe())
    assert guest.read(reader, 1).errno == Errno.INTR
    assert guest.write_zeros(writer, 98304).value == 65536
    assert guest.write(writer, b"x").errno == Errno.INTR
    counter = fd_of(guest.event(0))
    assert guest.read(counter, 8).errno == Errno.INTR
    assert guest.write(counter, number(2**64 - 2)).value == 8
    assert guest.write(counter, number(1)).errno == Errno.INTR
    for kind in (STREAM, DATAGRAM, SEQPACKET):
        one, other = fds(guest.pair(kind))
        assert guest.read(one, 1).errno == Errno.INTR
        while guest.write_zeros(other, 65536).errno == 0:
            pass
        assert guest.write_zeros(other, 65536).errno == Errno.INTR
    local.end()


def test_standard_input_can_be_read_without_waiting(tmp_path: Path, cache_dir: Path) -> None:
    script = Script()
    for fd in (0, 1):
        script.guest.set_flags(fd, NONBLOCK)
        script.guest.call("fd_fdstat_get", fd, DATA)
    with journal.record(REMOTE_ALONE, tmp_path / "j", cache=cache_dir) as recorder:
        recorder.feed(script.orders)
        # The guest asks for its next order while there is none, and ends at this error.
        assert recorder.wait(DEADLINE_SECONDS) == journal.engine.RunResult(
            journal.engine.ExitKind.EXITED, 81
        )
        answers = answers_in(recorder.stdout)
    assert {answer.errno for answer in answers} == {0}
    stats = [struct.unpack_from("<xxHxxxxQ", answer.data) for answer in answers[1::2]]
    assert stats == [(NONBLOCK, 2), (NONBLOCK, 64)]
    assert journal.verify_replay(tmp_path / "j", cache=cache_dir).matches


# -- hostile contents ---------------------------------------------------------------------------

PIPE, WRITER, COUNTER, PAIR, MESSAGES, COPY = 0, 1, 2, 3, 5, 7


@pytest.mark.parametrize(
    ("fd", "value", "flags", "parts"),
    [
        pytest.param(50, 0, 0, (), id="no descriptor"),
        pytest.param(COPY, 0, 0, (b"x",), id="a copy of another"),
        pytest.param(PIPE, 0, 0, (bytes(65537),), id="a long pipe"),
        pytest.param(PIPE, 0, 0, (b"x", b"y"), id="a pipe in parts"),
        pytest.param(WRITER, 0, 0, (b"x",), id="a writer with bytes"),
        pytest.param(COUNTER, 0, 0, (b"x",), id="a counter with bytes"),
        pytest.param(COUNTER, 2**64 - 1, 0, (), id="a large counter"),
        pytest.param(PAIR, 0, 0, (bytes(212993),), id="a long stream"),
        pytest.param(PAIR, 0, 0xFFFF << 16, (), id="an unknown error"),
        pytest.param(MESSAGES, 0, 0, (b"",), id="a sender without a message"),
        pytest.param(MESSAGES, 0, 0, (b"",) * 1026, id="many messages"),
        pytest.param(MESSAGES, 0, 0, (b"", bytes(212993)), id="a long message"),
        pytest.param(MESSAGES, 0, 0, (b"I\x07", b"x"), id="a malformed sender"),
    ],
)
def test_a_snapshot_with_impossible_contents_is_refused(
    fd: int, value: int, flags: int, parts: tuple[bytes, ...]
) -> None:
    local = LocalGuest()
    guest = GuestObjects(local)
    guest.pipe()
    guest.event(0)
    guest.pair()
    guest.pair(DATAGRAM)
    guest.dup(0)
    event = DescriptorContents(fd=fd, value=value, flags=flags, parts=parts)
    with pytest.raises(journal.errors.NotResumable, match=f"contents of descriptor {fd}"):
        apply_contents(local.context, [event])
    local.end()


def test_a_snapshot_has_the_contents_of_an_object_once() -> None:
    local = LocalGuest()
    GuestObjects(local).pipe()
    events = [DescriptorContents(fd=0, value=0, flags=0, parts=(b"x",))] * 2
    with pytest.raises(journal.errors.NotResumable, match="contents of descriptor 0"):
        apply_contents(local.context, events)
    local.end()
