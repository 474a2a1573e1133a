"""The group of sockets: their events, their results, what they received, and their descriptors."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import journal
from journal import Event, Frame, Query, Reader
from journal.events import codec, descriptors, inputs, sockets
from journal.events.definition import Group
from journal.events.inputs import HostCall, ReadyDescriptor
from journal.events.sockets import AddressFamily, SocketType
from journal.events.wire_types import SocketAddress
from journal.replay import ModelHost, play
from journal.replay.state.descriptor_table import SocketState
from tests.support.compaction_histories import (
    LIMITS,
    History,
    Story,
    frames_of,
    preamble,
    write_events,
    write_story,
)
from tests.support.sample_events import host_result, open_path, write

PEER = SocketAddress(IPv4Address("192.0.2.1"), 80)
SOCKETS = Query(groups=frozenset((Group.SOCKETS,)))


def received(fd: int) -> Event:
    return inputs.BytesReceived(fd=fd, errno=0, flags=0, sender=None, data=b"abc")


def accepted(fd: int) -> Event:
    return sockets.SocketAccepted(
        listen_fd=5, fd=fd, fd_flags=0, non_blocking=False, local_addr=PEER, peer_addr=PEER
    )


def close(fd: int) -> Event:
    return descriptors.CloseFileDescriptor(fd=fd)


OF_SOCKETS: list[Event] = [
    sockets.SocketOpen(af=AddressFamily.INET4, ty=SocketType.STREAM, pt=0, fd=5),
    host_result(HostCall.SOCKET, 5),
    sockets.SocketListen(fd=5, backlog=1),
    host_result(HostCall.LISTEN, 5, b"", 2),
    host_result(HostCall.ACCEPT, 5),
    accepted(6),
    descriptors.DuplicateFileDescriptor(original_fd=6, copied_fd=7),
    descriptors.FileDescriptorSetFdFlags(fd=7, flags=1),
    received(6),
    received(7),
    inputs.Resolved(host="example.org", port=80, errno=0, addresses=()),
    inputs.EpollResult(epfd=9, ready=(ReadyDescriptor(7, 1),)),
    descriptors.EpollCtl(epfd=9, op=descriptors.EpollOperation.DELETE, fd=7, event=None),
    close(7),
    descriptors.RenumberFileDescriptor(old_fd=6, new_fd=11),
    close(11),
]
OF_OTHERS: list[Event] = [
    descriptors.EpollCreate(fd=9),
    descriptors.CreatePipe(read_fd=12, write_fd=13),
    received(12),
    inputs.EpollResult(epfd=9, ready=(ReadyDescriptor(12, 1),)),
    open_path(6, 3, "a", 1),
    write(6, 0, b"abc"),
    inputs.ClockRead(clock=1, time=1),
    descriptors.DuplicateFileDescriptor(original_fd=6, copied_fd=7),
    close(7),
    close(6),
    host_result(HostCall.WAIT, 12),
    close(12),
]


def kept(tmp_path: Path, *, keep: bool) -> list[Event]:
    """Return the events after the preamble that a filter of sockets keeps."""
    source = write_events(tmp_path / "source", [*preamble(), *OF_SOCKETS[:-1], *OF_OTHERS])
    journal.filter(source, tmp_path / "target", SOCKETS, keep=keep)
    frames = frames_of(tmp_path / "target")
    return [codec.decode(*frame[1:3]) for frame in frames if frame.seq >= len(preamble())]


@pytest.mark.parametrize("keep", [False, True], ids=["drop", "keep"])
def test_the_group_of_sockets_has_their_results_and_their_descriptors(
    tmp_path: Path, keep: bool
) -> None:
    assert kept(tmp_path, keep=keep) == (OF_SOCKETS[:-1] if keep else OF_OTHERS)


def test_inspect_selects_the_events_of_sockets_by_expression(tmp_path: Path) -> None:
    source = write_events(tmp_path / "source", [*preamble(), *OF_SOCKETS, *OF_OTHERS])
    found = journal.filter(source, None, Query(where="of_socket and not kind == 'Resolved'"))
    assert found.events == len(OF_SOCKETS) - 1 + len(preamble())


def is_socket(host: ModelHost, fd: int) -> bool | None:
    """Return whether an open descriptor is a socket; None if it is not open."""
    entry = host.table.entries.get(fd)
    return None if entry is None else isinstance(entry.description.object, SocketState)


def is_moved_onto_another(story: Story) -> bool:
    """Return whether a socket takes the number of another open object, which then stays open."""
    host = ModelHost(LIMITS)
    for at, (tag, payload, time) in enumerate(story):
        event = codec.decode(tag, payload)
        if isinstance(event, descriptors.RenumberFileDescriptor):
            old, new = (is_socket(host, fd) for fd in (event.old_fd, event.new_fd))
            if old and new is False:
                return True
        play([Frame(at, tag, payload, time, 0)], host)
    return False


@pytest.mark.deep
@given(st.integers(0, 1 << 32), st.integers(0, 120))
def test_a_journal_without_sockets_leads_to_the_same_files(seed: int, steps: int) -> None:
    story = History(seed, steps, 15, has_network=True).story
    assume(not is_moved_onto_another(story))
    with TemporaryDirectory() as name:
        source, target = Path(name) / "source", Path(name) / "target"
        write_story(source, story)
        found = journal.filter(source, target, SOCKETS, keep=False)
        before, after = ModelHost(LIMITS), ModelHost(LIMITS)
        for path, host in ((source, before), (target, after)):
            with Reader(path) as reader:
                play(reader.frames(), host)
        things = [one.object for one in after.descriptors.values()]
        assert not any(isinstance(thing, SocketState) for thing in things)
        assert after.trees == before.trees
        assert not (found.events_dropped and found.resumable)
