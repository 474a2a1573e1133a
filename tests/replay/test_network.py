"""Sockets, pipes, counters and epolls of a model host, and a plain second implementation."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal import Event, Frame
from journal.events import codec, inputs, process, snapshots, sockets
from journal.events.inputs import HostCall
from journal.events.process import RecordingLevel
from journal.events.sockets import AddressFamily, Shutdown, SocketOption, SocketType
from journal.events.wire_types import SocketAddress
from journal.replay import ModelHost, play
from journal.replay.state.descriptor_table import SocketState
from journal.wasi_abi import Errno
from tests.support.compaction_histories import LIMITS, History
from tests.support.network_histories import address_value
from tests.support.plain_descriptors import PlainDescriptors, describe_model
from tests.support.sample_events import (
    host_result,
    play_events,
    process_start,
    refusal,
    snapshot,
)

HERE = SocketAddress(IPv4Address("127.0.0.1"), 80)
THERE = SocketAddress(IPv4Address("192.0.2.1"), 4711)
OPENED = [
    process_start(),
    sockets.SocketOpen(af=AddressFamily.INET4, ty=SocketType.STREAM, pt=6, fd=4),
    host_result(HostCall.SOCKET, 4),
]
CONNECT = sockets.SocketConnect(fd=4, addr=THERE)
CONNECTED = sockets.SocketConnected(fd=4, local_addr=HERE, peer_addr=THERE)
SEND = sockets.SocketSend(fd=4, flags=0, data=b"abcdef")
SESSION = process.SessionStart(
    realtime=0, monotonic=0, engine_version="", journal_version="", platform=""
)


def socket_after(*events: Event, fd: int = 4) -> SocketState:
    found = play_events(*OPENED, *events).descriptors[fd].object
    assert isinstance(found, SocketState)
    return found


def result(call: HostCall, value: bytes = b"", errno: int = 0) -> inputs.HostResult:
    return host_result(call, 4, value, errno)


def check_history(made: History) -> None:
    events = [codec.decode(tag, payload) for tag, payload, _ in made.story]
    host = ModelHost(LIMITS)
    frames = [
        Frame(at, tag, payload, time, 0) for at, (tag, payload, time) in enumerate(made.story)
    ]
    play(frames, host)
    plain = PlainDescriptors(events)
    found, fd_flags = describe_model(host)
    assert found == plain.for_bytes()
    assert fd_flags == {fd: plain.fd_flags[fd] for fd in found}
    numbers = plain.description_ids()
    assert {fd: one.description_id for fd, one in host.descriptors.items()} == {
        fd: numbers[id(thing)] for fd, thing in plain.used.items()
    }


@given(st.integers(0, 1 << 32), st.integers(0, 120))
def test_a_model_host_agrees_with_a_plain_second_implementation(seed: int, steps: int) -> None:
    check_history(History(seed, steps, 15, has_network=True))


# -- requests and their results -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_event", "call", "name", "value"),
    [
        (sockets.SocketBind(fd=4, addr=HERE), HostCall.BIND, "bound", address_value(HERE)),
        (
            sockets.SocketListen(fd=4, backlog=1),
            HostCall.LISTEN,
            "listening",
            address_value(HERE),
        ),
        (CONNECT, HostCall.CONNECT, "requested", address_value(HERE, THERE)),
        (SEND, HostCall.SEND, "sent", b"\4\0\0\0"),
        (sockets.SocketShutdown(fd=4, how=Shutdown.READ), HostCall.SHUTDOWN, "shut", b""),
        (
            sockets.SocketSetOptFlag(fd=4, opt=SocketOption.NO_DELAY, flag=True),
            HostCall.SET_OPTION,
            "options",
            b"",
        ),
        (
            sockets.SocketJoinIpv4Multicast(
                fd=4, multiaddr=IPv4Address("224.0.0.1"), iface=IPv4Address(0)
            ),
            HostCall.MULTICAST,
            "groups",
            b"",
        ),
    ],
    ids=lambda one: one.name if isinstance(one, HostCall) else "",
)
def test_a_request_takes_effect_with_its_successful_result(
    request_event: Event, call: HostCall, name: str, value: bytes
) -> None:
    new = socket_after()
    assert getattr(new, name) == getattr(socket_after(request_event, SESSION), name)
    refused = socket_after(request_event, result(call, b"", Errno.ACCES))
    assert getattr(refused, name) == getattr(new, name)
    assert not refused.is_inside
    done = socket_after(request_event, SESSION, result(call, value))
    assert getattr(done, name) != getattr(new, name)
    assert not done.is_inside


def test_a_connection_in_progress_is_requested() -> None:
    in_progress = socket_after(CONNECT, result(HostCall.CONNECT, b"", Errno.INPROGRESS))
    assert (in_progress.requested, in_progress.connected) == (CONNECT, None)
    assert in_progress.error == 0
    established = socket_after(CONNECT, result(HostCall.CONNECT, b"", Errno.INPROGRESS), CONNECTED)
    assert (established.requested, established.connected) == (CONNECT, CONNECTED)
    refused = socket_after(CONNECT, result(HostCall.CONNECT, b"", Errno.CONNREFUSED))
    assert (refused.requested, refused.error) == (None, Errno.CONNREFUSED)


def test_sent_bytes_are_those_that_the_host_accepted() -> None:
    assert socket_after(SEND, result(HostCall.SEND, b"\4\0\0\0")).sent == 4
    assert socket_after(SEND, result(HostCall.SEND, b"\xff\xff\0\0")).sent == 6
    assert socket_after(SEND, result(HostCall.SEND, b"", Errno.AGAIN)).sent == 0
    sending = [*OPENED, SEND, result(HostCall.SEND, b"\4")]
    assert "the host's result has 1 bytes, expected 4" in refusal(*sending)


def test_received_bytes_and_the_loss_of_a_connection_are_counted() -> None:
    def received(data: bytes, errno: int = 0, fd: int = 4) -> Event:
        return inputs.BytesReceived(fd=fd, errno=errno, flags=0, sender=None, data=data)

    socket = socket_after(received(b"abc"), received(b"", Errno.AGAIN), received(b"de"))
    assert (socket.received, socket.error, socket.is_lost) == (5, 0, False)
    lost = socket_after(received(b"abc"), received(b"", Errno.CONNRESET))
    assert (lost.received, lost.error, lost.is_lost) == (3, Errno.CONNRESET, True)
    # A filter may have dropped the socket.
    assert play_events(*OPENED, received(b"abc", fd=9)).inputs.result_count == 2


def test_requests_of_a_socket_inside_the_guest_take_effect_at_once() -> None:
    binding, listening = sockets.SocketBind(fd=4, addr=HERE), sockets.SocketListen(fd=4, backlog=3)
    pending = socket_after(binding)
    assert (pending.bound, pending.is_inside) == (None, False)
    inside = socket_after(sockets.SocketInside(fd=4), binding, listening, CONNECT)
    assert (inside.bound, inside.listening, inside.is_inside) == (binding, listening, True)
    assert inside.requested == CONNECT
    accepted = sockets.SocketAccepted(
        listen_fd=4, fd=5, fd_flags=0, non_blocking=False, local_addr=HERE, peer_addr=THERE
    )
    moved = [sockets.SocketInside(fd=4), binding, listening, accepted]
    assert socket_after(*moved, fd=5).is_inside


def test_unix_sockets_are_inside_the_guest() -> None:
    opening = sockets.SocketOpen(af=AddressFamily.UNIX, ty=SocketType.STREAM, pt=0, fd=7)
    pair = sockets.SocketPair(fd1=8, fd2=9)
    option = sockets.SocketSetOptFlag(fd=7, opt=SocketOption.NO_DELAY, flag=True)
    for fd in (7, 8, 9):
        assert socket_after(opening, option, pair, fd=fd).is_inside
    assert list(socket_after(opening, option, fd=7).options.values()) == [option]


def test_a_listener_is_open_from_the_start() -> None:
    listener = process.Listener(fd=3, addr=HERE, non_blocking=True)
    host = play_events(process_start(), listener)
    socket = host.descriptors[3].object
    assert (socket.created_by, socket.bound, socket.listening) == (listener,) * 3
    assert "descriptor 3 is already open" in refusal(process_start(), listener, listener)


@pytest.mark.parametrize(
    "start", [[], [process_start(RecordingLevel.STATE)]], ids=["other", "state"]
)
def test_in_a_journal_without_results_requests_take_effect_at_once(start: list[Event]) -> None:
    host = play_events(*start, OPENED[1], sockets.SocketBind(fd=4, addr=HERE), CONNECT, SEND)
    socket = host.descriptors[4].object
    assert (socket.bound.addr, socket.requested, socket.sent) == (HERE, CONNECT, 6)
    assert (socket.is_certain, socket.is_inside) == (not start, False)


# -- contents -------------------------------------------------------------------------------------


def test_contents_belong_to_the_state_when_their_snapshot_is_closed() -> None:
    def contents(*parts: bytes) -> snapshots.DescriptorContents:
        return snapshots.DescriptorContents(fd=4, value=1, flags=2, parts=parts)

    staged = play_events(*OPENED, contents(b"ab"))
    assert staged.machine.contents == {}
    closed = play_events(*OPENED, contents(b"ab"), snapshot(), contents(b"other"))
    assert closed.machine.contents == {4: contents(b"ab")}
    assert "descriptor 9 is not open" in refusal(
        *OPENED, snapshots.DescriptorContents(fd=9, value=0, flags=0, parts=())
    )
