"""Rebuilding: generated histories of calls, and journals that no guest can have written."""

from __future__ import annotations

import random
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import journal
from journal import NotResumable
from journal.engine.snapshot.positions import (
    STREAM_POSITION_MAX,
    apply_listing,
    apply_positions,
    capture_positions,
)
from journal.engine.snapshot.rebuild import REBUILD_TAGS, rebuild_state
from journal.engine.tape import Batch, TapeRow
from journal.engine.wasi.descriptors import DESCRIPTORS_MAX
from journal.engine.wasi.network.socket_state import HostSocketState
from journal.engine.wasi.terminal import SIDE_MAX
from journal.events import BY_TAG, descriptors, inputs, paths, sockets
from journal.events.core import TtySet
from journal.events.definition import Event
from journal.events.inputs import HostCall, HostResult
from journal.events.snapshots import DescriptorPositions, DirectoryListing
from journal.events.sockets import AddressFamily, SocketOption, SocketType
from journal.events.wire_types import SocketAddress
from tests.support.call_histories import (
    EVERYTHING,
    FIRST,
    IN_MEMORY,
    LOOPBACK,
    ON_HOST,
    READ_ONLY,
    Guest,
    Operation,
    Rows,
    fresh,
    histories,
    run_history,
    somewhere,
)
from tests.support.engine_state import Fresh, batches_of, check_each
from tests.support.rewrites import alter_event
from tests.support.strategies import events_of

# -- histories ------------------------------------------------------------------------------------


@given(histories)
def test_any_history_of_calls_is_folded(history: list[Operation]) -> None:
    with somewhere() as folder:
        guest = run_history(folder, history)
        check_each(fresh(folder), list(guest.rows.kept), guest.seen)


@given(histories, st.data())
def test_a_history_that_was_cut_and_went_on_is_folded(
    history: list[Operation], data: st.DataObject
) -> None:
    with somewhere() as folder:
        first = run_history(folder, history)
        count = data.draw(st.integers(0, len(first.rows.kept)), label="cut")
        rows = first.rows.kept[:count]
        second = Guest(folder, Rows(list(rows)), rows)
        second.live(history)
        check_each(fresh(folder), list(second.rows.kept), second.seen)


@given(histories, st.data())
def test_a_rebuilt_process_continues_as_if_it_had_run(
    history: list[Operation], data: st.DataObject
) -> None:
    with somewhere() as folder:
        whole = run_history(folder, history)
        index = data.draw(st.integers(0, len(history)), label="calls")
        upto, there = whole.seen[index]
        rest = whole.rows.kept[upto + 1 :]
        again = Guest(folder, Rows(), rest)
        rebuild_state(again.process.context, batches_of(whole.rows.kept), upto)
        again.process.stand(there)
        again.live(history[index:])
        assert not again.process.tape.replaying
        assert again.seen[-1][1] == whole.seen[-1][1]


STORY: list[Operation] = [
    ("path_create_directory", ON_HOST, "d"),
    ("open", ON_HOST, 1, "d", 2, 2, 0),
    ("open", ON_HOST, 1, "d/a", 5, EVERYTHING, 0),
    ("fd_write", FIRST + 1, b"written"),
    ("path_rename", ON_HOST, "d", ON_HOST, "e"),
    ("fd_write", FIRST + 1, b" and renamed"),
    ("open", ON_HOST, 1, "e/a", 5, EVERYTHING, 0),  # The file exists.
    ("path_rename", FIRST, "a", ON_HOST, "b"),
    ("open", IN_MEMORY, 1, "gone", 1, EVERYTHING, 1),
    ("path_unlink_file", IN_MEMORY, "gone"),
    ("fd_write", FIRST + 2, b"kept"),
    ("path_unlink_file", READ_ONLY, "a"),
    ("fd_renumber", FIRST + 2, FIRST),
    ("sock_open", 1, 1, 0),
    ("sock_bind", FIRST + 2, LOOPBACK),
    ("sock_listen", FIRST + 2, 3),
    ("tty_set", (100, 40, 0, 0, 0, 0, 0, 0, 1, 1)),
]


def test_what_was_renamed_while_open_is_found_on_the_host() -> None:
    with somewhere() as folder:
        rows = run_history(folder, STORY).rows.kept
        process = fresh(folder)
        rebuild_state(process.context, batches_of(rows), len(rows))
        opened = process.context.descriptors.get_file(FIRST + 1)
        assert {path.name for path in (folder / "host").iterdir()} == {"e", "b"}
        assert opened.file.read(FIRST + 1, 0, 100) == b"written and renamed"
        assert process.context.descriptors.get_file(FIRST).file.read(FIRST, 0, 9) == b"kept"
        assert process.context.descriptors.get_channel(FIRST + 2, HostSocketState).backlog == 3
        assert process.context.terminal.settings[:2] == (100, 40)
        process.mounts.close()


def test_a_fold_leaves_the_host_as_it_is() -> None:
    with somewhere() as folder:
        rows = run_history(folder, STORY).rows.kept
        away = folder.parent / f"{folder.name}-away"
        process = fresh(folder)
        folder.rename(away)
        try:
            rebuild_state(process.context, batches_of(rows), len(rows))
        finally:
            away.rename(folder)


# -- impossible journals --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def story() -> list[TapeRow]:
    """The rows of the fixed history."""
    with somewhere() as folder:
        return run_history(folder, STORY).rows.kept


def rebuild_rows(rows: list[TapeRow], upto: int = 1 << 60) -> Fresh:
    """Rebuild the state from rows without a host."""
    process = fresh(Path("/nowhere"))
    rebuild_state(process.context, batches_of(rows), upto)
    return process


def row_of(seq: int, event: Event) -> TapeRow:
    return seq, event.tag, journal.encode(event), 1_000_000 + seq


def host_result(
    call: HostCall, fd: int = ON_HOST, errno: int = 0, value: bytes = b""
) -> HostResult:
    return HostResult(call=call, fd=fd, errno=errno, value=value)


def open_file(**changes: Any) -> Event:
    """Return the event that creates the in-memory file ``a``."""
    event = descriptors.OpenFileDescriptor(
        fd=FIRST,
        dirfd=IN_MEMORY,
        dirflags=0,
        o_flags=1,
        fs_flags=0,
        fs_rights_base=EVERYTHING,
        fs_rights_inheriting=EVERYTHING,
        path="a",
    )
    return alter_event(event, **changes)


def write_file(**changes: Any) -> Event:
    event = descriptors.FileDescriptorWrite(fd=FIRST, offset=0, is_64bit=False, data=b"data")
    return alter_event(event, **changes)


def rename_file() -> Event:
    return paths.PathRename(old_fd=ON_HOST, new_fd=ON_HOST, old_path="a", new_path="b")


def test_the_rows_of_the_cases_below_do_fold() -> None:
    rows = [row_of(0, open_file()), row_of(1, write_file())]
    assert rebuild_rows(rows).mounts.files() == {"/a": b"data"}


TERMINAL = TtySet(
    cols=80,
    rows=25,
    width=0,
    height=0,
    stdin_tty=False,
    stdout_tty=False,
    stderr_tty=False,
    echo=True,
    line_buffered=True,
    line_feeds=True,
)
HOST_FILE = (bytes([4]) + bytes(16)) + b"a"
HERE = SocketAddress(ip_address("127.0.0.1"), 1)
SOCKET: list[Event] = [
    sockets.SocketOpen(af=AddressFamily.INET4, ty=SocketType.STREAM, pt=0, fd=FIRST),
    HostResult(call=HostCall.SOCKET, fd=FIRST, errno=0, value=b""),
]
CONNECT = sockets.SocketConnect(fd=FIRST, addr=HERE)
CONNECTED = sockets.SocketConnected(fd=FIRST, local_addr=HERE, peer_addr=HERE)
ACCEPTED = sockets.SocketAccepted(
    listen_fd=FIRST,
    fd=FIRST + 1,
    fd_flags=0,
    non_blocking=False,
    local_addr=HERE,
    peer_addr=HERE,
)

BAD: dict[str, tuple[list[Event], str]] = {
    "a number that is taken": ([open_file(fd=5)], "descriptor 5 is not free"),
    "a number that none has": ([open_file(fd=DESCRIPTORS_MAX)], "is not free"),
    "no directory": ([open_file(dirfd=1)], "failed with BADF"),
    "no such file": ([open_file(o_flags=0)], "failed with NOENT"),
    "out of the mount": ([open_file(path="../a")], "failed with PERM"),
    "an empty path": ([open_file(path="")], "failed with NOENT"),
    "flags against one another": ([open_file(o_flags=3)], "failed with INVAL"),
    "twice": ([open_file(o_flags=5), open_file(o_flags=5, fd=7)], "failed with EXIST"),
    "nothing open": ([write_file()], "failed with BADF"),
    "not to be written": (
        [open_file(), open_file(fd=7, o_flags=0, fs_rights_base=2), write_file(fd=7)],
        "failed with BADF",
    ),
    "a stream": ([write_file(fd=1)], "failed with BADF"),
    "nothing written": (
        [open_file(), write_file(data=b"")],
        "repeating this event recorded no effect",
    ),
    "too large a file": ([open_file(), write_file(offset=1 << 40)], "failed with NOSPC"),
    "further than a file": ([open_file(), write_file(offset=(1 << 64) - 1)], "failed with NOSPC"),
    "too much at once": ([open_file(), write_file(data=bytes((1 << 20) + 1))], "NOSPC|different"),
    "64 bits": (
        [open_file(), write_file(is_64bit=True)],
        "repeating this event produced a different event",
    ),
    "closed twice": (
        [open_file(), *[descriptors.CloseFileDescriptor(fd=FIRST)] * 2],
        "failed with BADF",
    ),
    "too long": (
        [open_file(), descriptors.FileDescriptorSetSize(fd=FIRST, st_size=1 << 50)],
        "failed with NOSPC",
    ),
    "longer than long": (
        [open_file(), descriptors.FileDescriptorSetSize(fd=FIRST, st_size=1 << 63)],
        "failed with INVAL",
    ),
    "read-only": ([paths.CreateDirectory(fd=READ_ONLY, path="a")], "failed with PERM"),
    "no answer": ([open_file(dirfd=ON_HOST)], "host result is missing"),
    "no probe": ([rename_file(), host_result(HostCall.RENAME)], "host result is missing"),
    "only a probe": ([host_result(HostCall.PROBE)], "no effect follows"),
    "two probes": ([host_result(HostCall.PROBE), host_result(HostCall.PROBE)], "no effect follows"),
    "a probe in memory": ([host_result(HostCall.PROBE, 3), open_file()], "a different event"),
    "a probe elsewhere": (
        [host_result(HostCall.PROBE, 3), rename_file()],
        "host result is missing",
    ),
    "only an answer": ([host_result(HostCall.RENAME)], "it is a host result without an effect"),
    "another's answer": (
        [open_file(dirfd=ON_HOST), host_result(HostCall.STAT)],
        "host result is missing",
    ),
    "an answer of nothing": ([open_file(dirfd=ON_HOST), host_result(HostCall.OPEN)], "requires"),
    "names that lead out": (
        [open_file(dirfd=ON_HOST), host_result(HostCall.OPEN, value=HOST_FILE[:-1] + b"../a")],
        r"recorded names b'\.\./a' contain an empty name, '\.' or '\.\.'",
    ),
    "more than was written": (
        [
            open_file(dirfd=ON_HOST),
            host_result(HostCall.OPEN, value=HOST_FILE),
            write_file(),
            host_result(HostCall.WRITE, FIRST, value=b"\5\0\0\0"),
        ],
        "write result is 5 bytes: only 4 were passed",
    ),
    "a pipe": ([descriptors.CreatePipe(read_fd=6, write_fd=6)], "descriptor 6 is not free"),
    "a copy": ([descriptors.DuplicateFileDescriptor(original_fd=9, copied_fd=6)], "BADF"),
    "a terminal as wide as no other": (
        [alter_event(TERMINAL, cols=SIDE_MAX), alter_event(TERMINAL, cols=SIDE_MAX + 1)],
        "failed with INVAL",
    ),
    "a socket with a number that is taken": (
        [sockets.SocketOpen(af=AddressFamily.INET4, ty=SocketType.STREAM, pt=0, fd=5)],
        "descriptor 5 is not free",
    ),
    "a socket of none": (
        [sockets.SocketOpen(af=AddressFamily.UNSPECIFIED, ty=SocketType.STREAM, pt=0, fd=6)],
        "failed with AFNOSUPPORT",
    ),
    "a file that listens": ([open_file(), sockets.SocketListen(fd=FIRST, backlog=1)], "NOTSOCK"),
    "a pair of sockets": ([sockets.SocketPair(fd1=6, fd2=6)], "descriptor 6 is not free"),
    "an accept of a file": ([open_file(), ACCEPTED], "NOTSOCK"),
    "an accept of a fresh socket": ([*SOCKET, ACCEPTED], "INVAL"),
    "a connection of a file": ([open_file(), CONNECT], "NOTSOCK"),
    "a connection to another family": (
        [*SOCKET, alter_event(CONNECT, addr=SocketAddress(ip_address("::1"), 1))],
        "does not fit the family",
    ),
    "a connection without a request": ([*SOCKET, CONNECTED], "NOTCONN"),
    "an outcome without a request": (
        [*SOCKET, HostResult(call=HostCall.CONNECT, fd=FIRST, errno=0, value=b"")],
        "no pending connection",
    ),
    "bytes without a connection": (
        [*SOCKET, sockets.SocketSend(fd=FIRST, flags=0, data=b"x")],
        "NOTCONN",
    ),
    "an option that nobody can set": (
        [*SOCKET, sockets.SocketSetOptFlag(fd=FIRST, opt=SocketOption.LISTENING, flag=True)],
        "NOPROTOOPT",
    ),
    "a limit of no time": (
        [*SOCKET, sockets.SocketSetOptTime(fd=FIRST, ty=sockets.TimeType.READ, time=0)],
        "INVAL",
    ),
    "an end of no connection": (
        [*SOCKET, sockets.SocketShutdown(fd=FIRST, how=sockets.Shutdown.READ)],
        "NOTCONN",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_no_guest_can_have_done_is_refused_with_its_number(name: str) -> None:
    events, reason = BAD[name]
    rows = [row_of(seq, event) for seq, event in enumerate(events, 40)]
    with pytest.raises(NotResumable, match=rf"^event (4\d), .*({reason})") as caught:
        rebuild_rows(rows)
    assert len(str(caught.value).splitlines()) == 1


def test_a_kind_of_a_newer_version_is_refused() -> None:
    tag = next(tag for tag in range(255, 0, -1) if tag not in BY_TAG)
    with pytest.raises(NotResumable, match=f"unknown kind {tag}"):
        rebuild_rows([(0, tag, b"", 1)])


def test_a_fold_to_inside_of_a_call_is_refused(story: list[TapeRow]) -> None:
    results = [row for row in story if row[1] == HostResult.tag]
    probes = [row[0] for row in results if row[2][0] == HostCall.PROBE]
    deeds = [row[0] - 1 for row in results if row[2][0] in (HostCall.OPEN, HostCall.RENAME)]
    assert len(probes) > 3
    assert len(deeds) > 3
    for upto in probes:
        with pytest.raises(NotResumable, match=f"event {upto}, a HostResult, .* no effect follows"):
            rebuild_rows(story, upto)
    for upto in deeds:
        with pytest.raises(NotResumable, match=f"event {upto}, .* host result is missing"):
            rebuild_rows(story, upto)


def test_a_story_without_one_of_its_rows_is_refused_or_another(story: list[TapeRow]) -> None:
    whole = rebuild_rows(story).described()
    for index in range(len(story)):
        rows = story[:index] + story[index + 1 :]
        try:
            found = rebuild_rows(rows).described()
        except NotResumable as error:
            check_error_message(error)
        else:
            assert found != whole or is_irrelevant(story[index])


def check_error_message(error: NotResumable) -> None:
    """Check that an error message is one sentence that names an event."""
    assert str(error).startswith("event ")
    assert len(str(error).splitlines()) == 1


def is_irrelevant(row: TapeRow) -> bool:
    """Return whether a row changes no state of the engine, such as a successful host write."""
    event = journal.decode(row[1], row[2])
    return isinstance(event, inputs.HostResult) and event.call in (HostCall.SIZE, HostCall.STAT)


def mutate_rows(rows: list[TapeRow], chance: random.Random) -> list[TapeRow]:
    """Draw a mutation of the rows."""
    rows = list(rows)
    for _ in range(chance.randint(1, 3)):
        index, other = chance.randrange(len(rows)), chance.randrange(len(rows))
        seq, tag, payload, time = rows[index]
        kind = chance.randrange(6)
        if kind == 0:
            del rows[index]
        elif kind == 1:
            rows[index], rows[other] = rows[other], rows[index]
        elif kind == 2:
            rows.insert(other, rows[index])
        elif kind == 3:
            rows[index] = seq, tag, payload[: chance.randint(0, len(payload))], time
        elif kind == 4 and payload:
            at = chance.randrange(len(payload))
            changed = bytes([payload[at] ^ 1 << chance.randrange(8)])
            rows[index] = seq, tag, payload[:at] + changed + payload[at + 1 :], time
        else:
            rows[index] = seq, chance.choice(sorted(REBUILD_TAGS)), payload, time
    return rows


@pytest.mark.deep
@given(histories, st.integers(0, 1 << 32))
def test_a_history_with_rows_out_of_place_is_refused_or_another_one(
    history: list[Operation], seed: int
) -> None:
    with somewhere() as folder:
        rows = run_history(folder, STORY + history).rows.kept
    chance = random.Random(seed)
    for _ in range(20):
        try:
            rebuild_rows(mutate_rows(rows, chance))
        except NotResumable as error:
            check_error_message(error)


folded_events = st.sampled_from(sorted(REBUILD_TAGS)).flatmap(lambda tag: events_of(BY_TAG[tag]))


@given(st.lists(folded_events, max_size=8))
def test_events_that_are_no_history_are_refused_or_do_nothing_worse(events: list[Event]) -> None:
    rows = [row_of(seq, event) for seq, event in enumerate(events)]
    try:
        rebuild_rows(rows)
    except NotResumable as error:
        check_error_message(error)


@given(
    st.lists(st.tuples(st.sampled_from(sorted(REBUILD_TAGS)), st.binary(max_size=60)), max_size=4)
)
def test_bytes_that_are_no_events_are_refused(pairs: list[tuple[int, bytes]]) -> None:
    rows = [(seq, tag, payload, 1) for seq, (tag, payload) in enumerate(pairs)]
    try:
        rebuild_rows(rows)
    except NotResumable as error:
        check_error_message(error)


# -- positions of descriptors ---------------------------------------------------------------------


def test_positions_must_be_those_of_what_is_open() -> None:
    process = rebuild_rows([row_of(0, open_file())])
    known = capture_positions(process.context).positions
    assert [fd for fd, _ in known] == [0, 1, 2, FIRST]
    for wrong in (known[:-1], known[1:], (*known, (9, 0)), (*known, known[-1]), known[::-1]):
        with pytest.raises(NotResumable, match="positions"):
            apply_positions(process.context, DescriptorPositions(positions=wrong, free=()))
    last = (1 << 64) - 1
    apply_positions(
        process.context, DescriptorPositions(positions=(*known[:-1], (FIRST, last)), free=())
    )
    assert capture_positions(process.context).positions == (*known[:-1], (FIRST, last))
    beyond = (known[0], (1, STREAM_POSITION_MAX + 1), *known[2:])
    with pytest.raises(NotResumable, match="stream position of"):
        apply_positions(process.context, DescriptorPositions(positions=beyond, free=()))


LISTING = DirectoryListing(
    fd=IN_MEMORY, entries=(b".", b"..", b"a"), inodes=(1, 1, 2), kinds=bytes([3, 3, 4])
)


@pytest.mark.parametrize(
    "changes",
    [
        {"fd": 0},
        {"fd": FIRST},
        {"fd": 99},
        {"entries": (b".",)},
        {"inodes": ()},
        {"kinds": bytes(4)},
        {"kinds": bytes([3, 3, 8])},
        {"entries": (b".", b"..", b"\xff")},
    ],
)
def test_a_listing_must_be_one(changes: dict[str, Any]) -> None:
    process = rebuild_rows([row_of(0, open_file())])
    apply_listing(process.context, LISTING)
    with pytest.raises(NotResumable, match="listing"):
        apply_listing(process.context, alter_event(LISTING, **changes))  # type: ignore[arg-type]


def test_a_batch_is_not_looked_at_behind_the_end() -> None:
    def batches() -> Iterator[Batch]:
        yield from batches_of([row_of(0, open_file()), row_of(1, write_file())])
        raise AssertionError("nobody needs this")

    process = fresh(Path("/nowhere"))
    rebuild_state(process.context, batches(), 0)
    assert process.mounts.files() == {"/a": b""}
