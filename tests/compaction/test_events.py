"""Kept and dropped events, kind by kind, with cases known to be wrong in other compactors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from tempfile import mkdtemp

import pytest

from journal import Event, compaction
from journal.compaction import RetentionPolicy
from journal.engine import RecordingLevel
from journal.events import (
    codec,
    core,
    descriptors,
    inputs,
    paths,
    process,
    sockets,
    streams,
)
from journal.events.descriptors import EpollEvent, EpollOperation, Whence
from journal.events.inputs import HostCall
from journal.events.paths import FileType
from journal.events.wire_types import SocketAddress
from journal.replay import ModelHost, play
from tests.support.compaction_histories import (
    ON_HOST,
    check,
    frames_of,
    preamble,
    write_events,
)
from tests.support.sample_events import (
    close,
    host_result,
    mkdir,
    open_path,
    unlink,
    whole_snapshot,
    write,
)

CREATE, DIRECTORY, EXCLUSIVE, TRUNCATE = 1, 2, 4, 8
LOOPBACK = SocketAddress(IPv4Address("127.0.0.1"), 80)
SOCKET = sockets.SocketOpen(
    af=sockets.AddressFamily.INET4, ty=sockets.SocketType.STREAM, pt=0, fd=9
)
BOUND = codec.encode(sockets.SocketBind(fd=0, addr=LOOPBACK))[4:]


def rename(old: str, new: str) -> Event:
    return paths.PathRename(old_fd=3, new_fd=3, old_path=old, new_path=new)


def dup(fd: int, copy: int) -> Event:
    return descriptors.DuplicateFileDescriptor(original_fd=fd, copied_fd=copy)


def renumber(old: int, new: int) -> Event:
    return descriptors.RenumberFileDescriptor(old_fd=old, new_fd=new)


def drop_events(
    folder: Path, *events: Event, level: RecordingLevel = RecordingLevel.FULL
) -> list[Event]:
    """Return the kept events before a snapshot, after a check that the states are equal."""
    begin, end = preamble(level), whole_snapshot()
    folder = Path(mkdtemp(dir=folder))
    source = write_events(folder / "source", [*begin, *events, *end])
    found = check(source, folder / "target", RetentionPolicy())
    assert not found.reason
    seqs = range(len(begin), len(begin) + len(events))
    frames = [frame for frame in frames_of(folder / "target") if frame.seq in seqs]
    return [codec.decode(frame.tag, frame.payload) for frame in frames]


# -- files ----------------------------------------------------------------------------------------


def test_a_file_opened_and_closed_leaves_no_trace(tmp_path: Path) -> None:
    made = [open_path(5, 3, "a", CREATE), close(5)]
    read = [
        open_path(5, 3, "a", 0),
        descriptors.FileDescriptorSeek(fd=5, offset=1, whence=Whence.SET),
    ]
    assert drop_events(tmp_path, *made, *read, close(5)) == made


def test_only_the_last_of_repeated_writes_stays(tmp_path: Path) -> None:
    begin, last = [open_path(5, 3, "a", CREATE)], [write(5, 0, b"the last"), close(5)]
    again = [write(5, 0, b"%08d" % n) for n in range(50)]
    assert drop_events(tmp_path, *begin, *again, *last) == [*begin, *last]


def test_a_write_stays_while_any_of_its_bytes_is_visible(tmp_path: Path) -> None:
    begin = [open_path(5, 3, "a", CREATE)]
    stays = [write(5, 0, b"a" * 10), write(5, 8, b"b" * 10), write(5, 30, b"c")]
    covered = [write(5, 9, b"x" * 4), write(5, 30, b"y")]
    assert drop_events(tmp_path, *begin, stays[0], *covered, *stays[1:]) == begin + stays


def test_a_file_that_is_cut_when_it_is_opened_needs_nothing_of_what_it_had(tmp_path: Path) -> None:
    first = [open_path(5, 3, "a", CREATE), write(5, 0, b"long" * 9), close(5)]
    between = [open_path(6, 3, "a", TRUNCATE), write(6, 0, b"longer" * 9), close(6)]
    last = [open_path(7, 3, "a", CREATE | TRUNCATE), write(7, 0, b"short"), close(7)]
    assert drop_events(tmp_path, *first, *between, *last) == [first[0], first[2], *last]


def test_what_was_cut_off_does_not_come_back_when_a_file_grows_again(tmp_path: Path) -> None:
    events = [
        open_path(5, 3, "a", CREATE),
        write(5, 0, b"0123456789"),
        descriptors.FileDescriptorSetSize(fd=5, st_size=4),
        write(5, 8, b"89"),
    ]
    assert drop_events(tmp_path, *events) == events


def test_a_file_that_is_made_and_removed_leaves_the_time_of_its_directory(tmp_path: Path) -> None:
    gone = [
        event
        for name in ("a", "b", "c")
        for event in (open_path(5, 3, name, CREATE), write(5, 0, b"much"), close(5), unlink(name))
    ]
    last = [gone[8], gone[10], gone[11]]
    assert drop_events(tmp_path, *gone) == last, "without what was written"
    later = [open_path(5, 3, "d", CREATE), close(5)]
    assert drop_events(tmp_path, *gone, *later) == later


def test_a_file_replaced_by_renaming_another_over_it_is_needed_no_more(tmp_path: Path) -> None:
    versions = [
        [open_path(5, 3, "new", CREATE), write(5, 0, b"%d" % n), close(5), rename("new", "file")]
        for n in range(9)
    ]
    flat = [event for version in versions for event in version]
    stays = drop_events(tmp_path, *flat)
    assert len(stays) == 4
    assert stays == versions[-1]


def test_a_file_without_a_name_stays_as_long_as_it_is_open(tmp_path: Path) -> None:
    open_one = [open_path(5, 3, "a", CREATE), write(5, 0, b"kept"), unlink("a")]
    closed_one = [open_path(6, 3, "b", CREATE), write(6, 0, b"gone"), unlink("b"), close(6)]
    other = [open_path(7, 3, "c", CREATE), close(7)]
    assert drop_events(tmp_path, *open_one, *closed_one, *other) == open_one + other


def test_names_of_one_file_are_told_from_one_another(tmp_path: Path) -> None:
    made = [open_path(5, 3, "a", CREATE), write(5, 0, b"abc"), close(5)]
    link = paths.CreateHardLink(old_fd=3, old_flags=0, new_fd=3, old_path="a", new_path="b")
    assert drop_events(tmp_path, *made, link, unlink("a")) == [*made, link, unlink("a")]


def test_times_stay_as_the_last_that_set_each_of_them(tmp_path: Path) -> None:
    def times(atime: int, mtime: int, flags: int) -> Event:
        return descriptors.FileDescriptorSetTimes(
            fd=5, st_atim=atime, st_mtim=mtime, fst_flags=flags
        )

    begin = open_path(5, 3, "a", CREATE)
    events = [begin, times(1, 1, 5), times(2, 2, 1), times(3, 3, 4), times(4, 4, 4)]
    assert drop_events(tmp_path, *events) == [begin, times(2, 2, 1), times(4, 4, 4)]


def test_a_renamed_directory_takes_along_what_is_in_it(tmp_path: Path) -> None:
    events = [
        mkdir("d"),
        mkdir("d/e"),
        open_path(5, 3, "d/e/a", CREATE),
        close(5),
        rename("d", "f"),
        open_path(6, 3, "f/e/a", 0),
        write(6, 0, b"through another name"),
        close(6),
        rename("f/e", "g"),
    ]
    assert drop_events(tmp_path, *events) == events


def test_the_same_name_in_two_directories_is_two(tmp_path: Path) -> None:
    made = [mkdir("d"), open_path(5, 3, "d", DIRECTORY)]
    a = [open_path(6, 3, "a", CREATE), write(6, 0, b"one"), close(6)]
    b = [open_path(6, 5, "a", CREATE), write(6, 0, b"two"), close(6)]
    assert drop_events(tmp_path, *made, *a, *b, close(5)) == [*made, *a, *b, close(5)]


def test_a_removal_leaves_its_namesake_in_another_directory(tmp_path: Path) -> None:
    made = [mkdir("d"), open_path(5, 3, "d", DIRECTORY)]
    kept = [open_path(6, 3, "a", CREATE), write(6, 0, b"one"), close(6)]
    other = [open_path(6, 5, "a", CREATE), write(6, 0, b"two"), close(6)]
    for gone in (unlink("a", fd=5), unlink("d/a")):
        stays = drop_events(tmp_path, *made, *kept, *other, gone)
        assert stays == [*made, *kept, other[0], other[2], gone], "but for what it contained"


def test_what_was_in_a_directory_goes_under_whichever_name_it_is_removed(tmp_path: Path) -> None:
    inside = [open_path(5, 3, "d/a", CREATE), write(5, 0, b"moved along"), close(5)]
    gone = [unlink("e/a"), paths.RemoveDirectory(fd=3, path="e")]
    stays = drop_events(tmp_path, mkdir("d"), *inside, rename("d", "e"), *gone, mkdir("z"))
    assert stays == [mkdir("z")]


def test_each_change_of_the_working_directory_stays(tmp_path: Path) -> None:
    events = [paths.ChangeDirectory(path=path) for path in ("/a", "/b", "/a")]
    assert drop_events(tmp_path, *events) == events


def test_what_was_placed_and_removed_is_removed_again(tmp_path: Path) -> None:
    placed = paths.FilePlaced(
        kind=FileType.REGULAR_FILE, offset=0, path="/west/a", data=b"from the start"
    )
    events = [placed, unlink("a"), mkdir("d")]
    assert drop_events(tmp_path, *events) == events


def test_a_removal_of_what_the_journal_does_not_make_is_not_left_alone(tmp_path: Path) -> None:
    """A removal is dropped together with its creation, so that no removal lacks its object."""
    events = [mkdir("a"), mkdir("a/b"), paths.RemoveDirectory(fd=3, path="a/b")]
    gone = [*events, paths.RemoveDirectory(fd=3, path="a"), mkdir("z")]
    assert drop_events(tmp_path, *gone) == [mkdir("z")]


# -- descriptors ----------------------------------------------------------------------------------


def test_a_copy_and_what_is_written_through_it_stay(tmp_path: Path) -> None:
    events = [
        open_path(5, 3, "a", CREATE),
        dup(5, 6),
        close(5),
        write(6, 0, b"abc"),
        renumber(6, 8),
    ]
    events += [write(8, 3, b"def")]
    assert drop_events(tmp_path, *events) == events


def test_one_of_two_that_share_a_file_may_be_closed(tmp_path: Path) -> None:
    events = [open_path(5, 3, "a", CREATE), dup(5, 6), write(5, 0, b"abc"), close(6)]
    assert drop_events(tmp_path, *events) == [events[0], events[2]]
    events = [descriptors.CreatePipe(read_fd=5, write_fd=6), write(6, 0, b"in it"), close(6)]
    assert drop_events(tmp_path, *events) == events


def test_a_pipe_that_is_closed_at_both_ends_leaves_no_trace(tmp_path: Path) -> None:
    events = [descriptors.CreatePipe(read_fd=5, write_fd=6), write(6, 0, b"in it")]
    assert drop_events(tmp_path, *events, close(6), close(5)) == []


def test_one_half_of_a_pair_stays_when_the_other_is_closed(tmp_path: Path) -> None:
    pair = sockets.SocketPair(fd1=5, fd2=6)
    for one, other in ((5, 6), (6, 5)):
        assert drop_events(tmp_path, pair, close(one)) == [pair, close(one)]
        assert drop_events(tmp_path, pair, close(one), close(other)) == []


def test_a_copy_of_one_end_keeps_a_pipe(tmp_path: Path) -> None:
    events = [descriptors.CreatePipe(read_fd=5, write_fd=6), dup(6, 7), close(6)]
    events += [write(7, 0, b"in it"), renumber(7, 9), close(5)]
    assert drop_events(tmp_path, *events) == events
    assert drop_events(tmp_path, *events, close(9)) == []


def test_an_epoll_goes_on_watching_through_a_copy_or_under_another_number(tmp_path: Path) -> None:
    event = EpollEvent(1, 2, 0, 1, 4)
    begin = [
        descriptors.EpollCreate(fd=5),
        descriptors.EpollCtl(epfd=5, op=EpollOperation.ADD, fd=0, event=event),
    ]
    for moved in ([dup(5, 6), close(5)], [renumber(5, 6)]):
        assert drop_events(tmp_path, *begin, *moved) == [*begin, *moved]
        assert drop_events(tmp_path, *begin, *moved, close(6)) == []


def test_what_an_epoll_watches_stays(tmp_path: Path) -> None:
    def watch(op: EpollOperation, fd: int, data: int) -> Event:
        found = EpollEvent(1, 2, fd, data, 4)
        return descriptors.EpollCtl(epfd=5, op=op, fd=fd, event=found)

    create = descriptors.EpollCreate(fd=5)
    add, change, delete = list(EpollOperation)[:3]
    events = [create, watch(add, 0, 1), watch(add, 1, 1), watch(change, 1, 2), watch(delete, 0, 0)]
    stays = drop_events(tmp_path, *events)
    assert stays[0] == create
    assert stays[-1] == watch(change, 1, 2)
    assert watch(delete, 0, 0) not in stays
    assert drop_events(tmp_path, *events, close(5)) == []


def test_a_number_that_another_took_over_needs_nothing_of_what_it_was(tmp_path: Path) -> None:
    logs = [
        [open_path(9, 3, f"log{n}", CREATE), renumber(9, 8), write(8, 0, b"line %d" % n)]
        for n in range(3)
    ]
    begin = [open_path(8, 3, "log", CREATE)]
    events = [*begin, *(event for log in logs for event in log)]
    assert drop_events(tmp_path, *events) == events, "all files are there"
    removed = [unlink(f"log{n}") for n in range(2)]
    stays = drop_events(tmp_path, *events, unlink("log"), *removed)
    assert stays[-4:] == [*logs[2], removed[1]]
    assert logs[0][2] not in stays


def test_a_socket_stays_with_its_answers_until_it_is_closed(tmp_path: Path) -> None:
    listening = [
        SOCKET,
        host_result(HostCall.SOCKET, 9),
        sockets.SocketBind(fd=9, addr=LOOPBACK),
        host_result(HostCall.BIND, 9, BOUND),
        sockets.SocketListen(fd=9, backlog=3),
        host_result(HostCall.LISTEN, 9, BOUND),
    ]
    accepted = sockets.SocketAccepted(
        listen_fd=9, fd=10, fd_flags=0, non_blocking=False, local_addr=LOOPBACK, peer_addr=LOOPBACK
    )
    sent = [
        sockets.SocketSend(fd=10, flags=0, data=b"sent"),
        host_result(HostCall.SEND, 10, b"\4\0\0\0"),
    ]
    moved = [accepted, *sent, renumber(10, 11)]
    kept = [*listening, accepted, renumber(10, 11)]
    assert drop_events(tmp_path, *listening, *moved) == kept, "no state depends on sent bytes"
    assert drop_events(tmp_path, *listening, *moved, close(11)) == listening
    assert drop_events(tmp_path, *listening, *moved, close(11), close(9)) == []


def test_outbound_sockets_are_tracked(tmp_path: Path) -> None:
    events = [
        SOCKET,
        host_result(HostCall.SOCKET, 9),
        sockets.SocketConnected(fd=9, local_addr=LOOPBACK, peer_addr=LOOPBACK),
    ]
    assert drop_events(tmp_path, *events) == events
    assert drop_events(tmp_path, *events, close(9)) == []


def test_a_refused_opening_leaves_no_trace(tmp_path: Path) -> None:
    refused = [open_path(5, ON_HOST, "a", 0), host_result(HostCall.OPEN, ON_HOST, b"", 44)]
    assert drop_events(tmp_path, *refused) == []


def test_a_refused_opening_in_the_place_of_what_nobody_answered_stays(tmp_path: Path) -> None:
    unanswered = open_path(5, ON_HOST, "a", 0)
    refused = [open_path(6, ON_HOST, "b", 0), host_result(HostCall.OPEN, ON_HOST, b"", 44)]
    events = [*preamble(), unanswered, *whole_snapshot(), *refused, *whole_snapshot()]
    source = write_events(tmp_path / "source", events)
    assert check(source, tmp_path / "target", RetentionPolicy(keep_last=2)).kept_events == len(
        events
    )
    assert check(source, tmp_path / "shorter", RetentionPolicy()).kept_events < len(events) - 3


def test_what_is_open_of_the_host_stays_with_its_answers_and_its_names(tmp_path: Path) -> None:
    renamed = [
        host_result(HostCall.PROBE, ON_HOST, b"\1"),
        paths.PathRename(old_fd=ON_HOST, new_fd=ON_HOST, old_path="a", new_path="b"),
        host_result(HostCall.RENAME, ON_HOST, b"names"),
    ]
    opened = [open_path(5, ON_HOST, "a", CREATE), host_result(HostCall.OPEN, ON_HOST, b"\4node")]
    removed = [
        host_result(HostCall.PROBE, ON_HOST, b"\1"),
        paths.UnlinkFile(fd=ON_HOST, path="c"),
        host_result(HostCall.UNLINK, ON_HOST),
    ]
    wrote = [write(5, 0, b"abc"), host_result(HostCall.WRITE, 5, b"\3\0\0\0")]
    read = [host_result(HostCall.READ, 5, b"abc"), host_result(HostCall.STAT, 5, bytes(64))]
    events = [*renamed, *opened, *removed, *renamed, *read, *wrote, *read]
    assert drop_events(tmp_path, *events) == [*opened, *renamed, *wrote]


# -- the rest -------------------------------------------------------------------------------------


def test_inputs_are_dropped_only_before_a_snapshot(tmp_path: Path) -> None:
    told = [
        inputs.ClockRead(clock=0, time=1),
        inputs.RandomBytes(data=b"random"),
        inputs.StreamRead(stream=0, offset=0, data=b"read"),
        inputs.PollResult(events=bytes(32)),
    ]
    behind = [inputs.StreamRead(stream=0, offset=4, data=b"more"), *told[:2]]
    begin = preamble()
    events = [*begin, *told, *whole_snapshot((0, 4)), *behind]
    source = write_events(tmp_path / "source", events)
    found = check(source, tmp_path / "target", RetentionPolicy())
    stays = [codec.decode(frame.tag, frame.payload) for frame in frames_of(tmp_path / "target")]
    assert stays == [*begin, *whole_snapshot((0, 4)), *behind]
    dropped = {kind.name: kind.dropped_events for kind in found.kinds if kind.dropped_events}
    names = ("ClockRead", "RandomBytes", "StreamRead", "PollResult")
    assert dropped == dict.fromkeys(names, 1)
    host = ModelHost()
    play(frames_of(tmp_path / "target"), host)
    assert host.inputs.read == {0: 8}


def test_the_latest_of_its_kind_stays(tmp_path: Path) -> None:
    def clock(which: core.Clock, time: int) -> Event:
        return core.SetClockTime(clock_id=which, time=time)

    one, two = core.Clock.REALTIME, core.Clock.MONOTONIC
    events = [clock(one, 1), clock(two, 1), clock(one, 2)]
    assert drop_events(tmp_path, *events) == events[1:]


def test_the_first_stream_event_of_a_session_stays(tmp_path: Path) -> None:
    """Output before the session must not be mistaken for output of the session."""
    opened = streams.StreamOpened(
        stream=1, kind=streams.TargetKind.PIPE, append=False, position=0, device=0, inode=0
    )
    classes = [streams.StreamDelivered(stream=1, upto=upto) for upto in range(5)]
    assert drop_events(tmp_path, opened, *classes) == [opened, classes[0], classes[4]]


def test_a_seal_goes(tmp_path: Path) -> None:
    begin, seal = preamble(), process.Seal(count=1, hash=2)
    source = write_events(tmp_path / "source", [*begin, *whole_snapshot(), seal, mkdir("a")])
    compaction.compact(source, tmp_path / "target")
    stays = [codec.decode(frame.tag, frame.payload) for frame in frames_of(tmp_path / "target")]
    assert stays == [*begin, *whole_snapshot(), mkdir("a")]


Wrong = Sequence[Event]


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        ((write(7, 0, b"abc"),), "descriptor 7 is not open"),
        ((unlink("never"),), "'never' does not exist"),
    ],
)
def test_where_the_beginning_is_missing_all_that_it_would_tell_of_stays(
    tmp_path: Path, events: Wrong, reason: str
) -> None:
    """The journal continues another journal, which is missing."""
    begin: Iterable[Event] = preamble()
    dropped = [inputs.RandomBytes(data=b"random")]
    kept = [open_path(5, 3, "a", CREATE), close(5), open_path(5, 3, "a", 0), close(5), *events]
    source = write_events(tmp_path / "source", [*begin, *dropped, *kept, *whole_snapshot()])
    found = compaction.compact(source, tmp_path / "target")
    assert found.reason.startswith("events of files and descriptors are kept unchanged: event ")
    assert reason in found.reason
    stays = [codec.decode(frame.tag, frame.payload) for frame in frames_of(tmp_path / "target")]
    assert stays == [*begin, *kept, *whole_snapshot()]
