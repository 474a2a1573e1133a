"""Sockets after a resume, a snapshot or a fork: what is made again, and what is lost."""

from __future__ import annotations

import socket
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

import journal
from journal.engine import ALL_NETWORK, LostConnections, SnapshotOptions
from journal.engine.snapshot.rebuild import rebuild_state
from journal.engine.wasi.network.socket_state import HostSocketState
from journal.events.inputs import BytesReceived, HostResult, StreamRead
from journal.events.sockets import SocketOption, SocketSend
from journal.events.wire_types import SocketAddress
from journal.snapshots import Trigger
from journal.wasi_abi import Errno
from tests.support.budget import Budget
from tests.support.deadlines import DEADLINE_SECONDS, wait_until
from tests.support.engine_state import Fresh, Witness, batches_of, check_each, rows_of
from tests.support.guest_runs import run_limited_tool
from tests.support.remote_guest import (
    ANSWER_SIZE,
    DATA,
    REMOTE,
    Answer,
    Remote,
    Session,
    encode_order,
    parse_answer,
)
from tests.support.rewrites import (
    alter_event,
    events_of,
    frames_of,
    keep_first,
    replace_event,
    rewrite,
)
from tests.support.wasix_sockets import (
    DGRAM,
    INET4,
    STREAM,
    Sockets,
    accept,
    expect_note,
    inet4,
    is_reached,
    listen,
    open_socket,
    port_of,
    read_answers,
    receive,
    receive_from,
    resume_remote,
    send,
    send_to,
)

OPENED, CLOSED = 1, 2
NONBLOCK = 4
ERRNOS = {int(errno) for errno in Errno}
EXPLICIT = SnapshotOptions(on=frozenset({Trigger.EXPLICIT}))
GROUP = bytes([239, 1, 2, 4, 127, 0, 0, 1])


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_SECONDS)


def sockets_of(recorder: journal.Recorder) -> dict[int, HostSocketState]:
    process = recorder._process
    assert process is not None
    used = process.context.descriptors.used
    return {fd: each for fd, each in used.items() if isinstance(each, HostSocketState)}


def has_handle(recorder: journal.Recorder, fd: int) -> bool:
    """Return whether a socket of the guest has its socket of the host: the guest is live."""
    found = sockets_of(recorder).get(fd)
    return found is not None and found.handle is not None


def handle_of(recorder: journal.Recorder, fd: int) -> socket.socket:
    handle = sockets_of(recorder)[fd].handle
    assert handle is not None
    return handle


def make_sockets(guest: Sockets) -> tuple[int, int, int]:
    """Return a listener with options, a datagram socket with a group, and the listener's port."""
    listener, port = listen(guest)
    assert guest("sock_set_opt_flag", listener, SocketOption.KEEP_ALIVE, 1).errno == 0
    assert guest("sock_set_opt_size", listener, SocketOption.RECV_BUF_SIZE, 9000).errno == 0
    datagrams = open_socket(guest, kind=DGRAM)
    assert guest("sock_set_opt_flag", datagrams, SocketOption.BROADCAST, 1).errno == 0
    assert guest("sock_bind", datagrams, DATA, data=inet4(0, "0.0.0.0")).errno == 0
    joined = guest("sock_join_multicast_v4", datagrams, DATA, DATA + 4, data=GROUP)
    assert joined.errno == 0
    return listener, datagrams, port


def check_sockets(recorder: journal.Recorder, listener: int, datagrams: int) -> None:
    """Check that both sockets have their options and that the group has a member."""
    handle = handle_of(recorder, listener)
    assert handle.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert handle.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 18000
    handle = handle_of(recorder, datagrams)
    assert handle.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST)
    handle.setsockopt(socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, GROUP)  # It was a member.


def check_lost(guest: Sockets, fd: int) -> None:
    """Check that a connection behaves as one that its peer has reset."""
    assert receive(guest, fd).errno == Errno.CONNRESET
    assert receive(guest, fd)[:2] == (0, b"")
    assert send(guest, fd, b"x").errno == Errno.PIPE
    assert guest("sock_status", fd, DATA).data[0] == CLOSED
    assert guest("sock_shutdown", fd, 3).errno == Errno.NOTCONN
    assert guest("sock_set_opt_flag", fd, SocketOption.NO_DELAY, 1).errno == 0
    assert guest("sock_get_opt_flag", fd, SocketOption.NO_DELAY, DATA).data[0] == 1
    assert guest("fd_close", fd).errno == 0


@pytest.mark.deep
def test_a_killed_server_goes_on_without_its_connections(tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "j"
    with Session("record", path, cache_dir) as first:
        listener, datagrams, port = make_sockets(first)
        datagram_port = port_of(first, datagrams)
        with connect(port) as client:
            fd = accept(first, listener)
            client.sendall(b"request")
            assert receive(first, fd).data == b"request"
            assert send(first, fd, b"answer").number == 6
            first.kill()
            assert client.recv(99) == b"answer"
    for _ in range(2):
        with Session("resume", path, cache_dir) as again:
            assert port_of(again, listener) == port
            with connect(port) as client:
                other = accept(again, listener)
                client.sendall(b"next")
                assert receive(again, other).data == b"next"
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"datagram", ("127.0.0.1", datagram_port))
            assert receive(again, datagrams).data == b"datagram"
            again.kill()
    with Session("resume", path, cache_dir) as again:
        check_lost(again, fd)
        again.end()
    assert [e.data for e in events_of(path) if isinstance(e, SocketSend)] == [b"answer", b"x"]
    assert journal.verify_replay(path, cache=cache_dir).matches


def test_sockets_have_their_options_and_groups_again(tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "j"
    with journal.record(REMOTE, path, network=ALL_NETWORK, cache=cache_dir) as recorder:
        listener, datagrams, _ = make_sockets(Remote(recorder))
    with journal.resume(path, network=ALL_NETWORK, cache=cache_dir) as recorder:
        resume_remote(recorder)
        check_sockets(recorder, listener, datagrams)


def test_a_snapshot_holds_open_sockets(tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "j"
    options: dict[str, Any] = {"network": ALL_NETWORK, "cache": cache_dir}
    with journal.record(REMOTE, path, snapshots=EXPLICIT, **options) as recorder:
        guest = Remote(recorder)
        listener, datagrams, port = make_sockets(guest)
        client = open_socket(guest)
        assert guest("sock_connect", client, DATA, data=inet4(port)).errno == 0
        fd = accept(guest, listener)
        assert send(guest, client, b"x").number == 1
        assert receive(guest, fd).data == b"x"
        here = inet4(port_of(guest, datagrams))
        connected = open_socket(guest, kind=DGRAM)
        assert send_to(guest, connected, b"1", here).number == 1
        assert guest("sock_connect", connected, DATA, data=here).errno == 0
        assert guest("sock_shutdown", fd, 2).errno == 0
        recorder.snapshot()
    with journal.resume(path, **options) as recorder:
        again = resume_remote(recorder)
        assert again("sock_addr_peer", client, DATA).data[:8] == inet4(port)
        check_sockets(recorder, listener, datagrams)
        for lost in (client, fd):
            check_lost(again, lost)
        assert send(again, connected, b"2").number == 1
        assert receive_from(again, datagrams).data == b"2"
        wait_until(lambda: is_reached(port))
        again.end()
    assert journal.verify_replay(path, cache=cache_dir).matches


WAITS = {
    "sock_accept": (0, DATA),
    "fd_read": (DATA, 1, DATA + 8),
    "sock_recv_from": (DATA, 1, 0, DATA + 8, DATA + 12, DATA + 16),
}


@pytest.mark.parametrize("call", WAITS)
def test_a_guest_that_waited_does_what_it_can(call: str, tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "j"
    options: dict[str, Any] = {"network": ALL_NETWORK, "cache": cache_dir}
    with journal.record(REMOTE, path, **options) as recorder:
        guest = Remote(recorder)
        listener, datagrams, port = make_sockets(guest)
        datagram_port = port_of(guest, datagrams)
        client = connect(port)
        fds = {"sock_accept": listener, "sock_recv_from": datagrams}
        fd = fds.get(call) or accept(guest, listener)
        if call == "sock_accept":
            accept(guest, listener)
        count = len(recorder.stdout) // ANSWER_SIZE
        data = (DATA + 48).to_bytes(4, "little") + (8).to_bytes(4, "little")
        order = encode_order(call, fd, *WAITS[call], data=data)
        recorder.feed(order)
        wait_until(lambda: order in inputs_of(path))
    client.close()
    with journal.resume(path, **options) as recorder:
        wait_until(lambda: has_handle(recorder, datagrams))
        if call == "sock_accept":
            client = connect(port)
        elif call == "sock_recv_from":
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"late", ("127.0.0.1", datagram_port))
        wait_until(lambda: len(recorder.stdout) // ANSWER_SIZE > count)
        answer = parse_answer(recorder.stdout[-ANSWER_SIZE:])
        assert answer.errno == (Errno.CONNRESET if call == "fd_read" else 0)
        assert call != "sock_recv_from" or answer.data[48:52] == b"late"
    client.close()


def inputs_of(path: Path) -> bytes:
    """Return what the guest has read from its standard input."""
    return b"".join(event.data for event in events_of(path) if isinstance(event, StreamRead))


def test_a_connection_in_progress_is_requested_again(tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "j"
    options: dict[str, Any] = {"network": ALL_NETWORK, "cache": cache_dir}
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = inet4(server.getsockname()[1])
        with journal.record(REMOTE, path, **options) as recorder:
            guest = Remote(recorder)
            fd = open_socket(guest)
            guest("fd_fdstat_set_flags", fd, 4)
            if guest("sock_connect", fd, DATA, data=address).errno != Errno.INPROGRESS:
                pytest.skip("this host connects at once")
            server.accept()[0].close()
        with journal.resume(path, **options) as recorder:
            again = resume_remote(recorder)
            end, _ = server.accept()
            with end:
                wait_until(lambda: again("sock_status", fd, DATA).data[0] == OPENED)
                assert send(again, fd, b"only once").number == 9
                assert end.recv(99) == b"only once"


def test_a_resume_refuses_to_lose_connections(tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "j"
    options: dict[str, Any] = {"network": ALL_NETWORK, "cache": cache_dir}
    refuse: dict[str, Any] = {"lost_connections": LostConnections.REFUSE}
    with journal.record(REMOTE, path, **options) as recorder:
        guest = Remote(recorder)
        listener, port = listen(guest)
        with connect(port) as client:
            fd = accept(guest, listener)
            peer = client.getsockname()[1]
            recorder.stop()
            recorder.wait()
    before = path.read_bytes()
    reason = rf"1 open connections .*\(descriptor {fd} to 127.0.0.1:{peer}\): .*lost-connection"
    with pytest.raises(journal.NotResumable, match=reason):
        journal.resume(path, **refuse, **options)
    done = run_limited_tool(
        "resume", "--net", "all", "--on-lost-connection", "refuse", "j", folder=tmp_path
    )
    assert done.returncode == 125, done.stderr
    assert "would lose" in done.stderr
    assert path.read_bytes() == before
    with journal.resume(path, **options) as recorder:
        again = resume_remote(recorder)
        assert again("fd_close", fd).errno == 0
    with journal.resume(path, **refuse, **options) as recorder:
        wait_until(lambda: is_reached(port))


def test_a_fork_has_no_connections_and_shares_a_port_only_if_it_may(
    tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "j"
    options: dict[str, Any] = {"network": ALL_NETWORK, "cache": cache_dir}
    with journal.record(REMOTE, path, snapshots=EXPLICIT, **options) as recorder:
        guest = Remote(recorder)
        listener, port = listen(guest)
        shared = open_socket(guest)
        assert guest("sock_set_opt_flag", shared, SocketOption.REUSE_PORT, 1).errno == 0
        assert guest("sock_bind", shared, DATA, data=inet4(0)).errno == 0
        assert guest("sock_listen", shared, 5).errno == 0
        with connect(port) as client:
            fd = accept(guest, listener)
            with expect_note(f"socket {listener} at 127.0.0.1:{port} .* already in use"):
                (child,) = recorder.fork(into=tmp_path / "c", timeout_seconds=DEADLINE_SECONDS)
                with child:
                    forked = Remote(child)
                    assert forked("sock_accept", listener, 0, DATA).errno == Errno.ADDRINUSE
                    check_lost(forked, fd)
                    assert handle_of(child, shared).getsockname()[1] == port_of(guest, shared)
            client.sendall(b"to the parent")
            assert receive(guest, fd).data == b"to the parent"


BAD_RESULTS = [
    pytest.param(b"", id="nothing"),
    pytest.param(b"\x04" * 30, marks=pytest.mark.deep, id="two addresses"),
    pytest.param(b"\x10" + bytes(53), marks=pytest.mark.deep, id="another family"),
    pytest.param(b"\x04" + bytes(28), marks=pytest.mark.deep, id="cut addresses"),
]


@pytest.mark.parametrize("value", BAD_RESULTS)
def test_a_recorded_result_that_is_impossible_is_refused(
    value: bytes, tmp_path: Path, cache_dir: Path
) -> None:
    with journal.record(REMOTE, tmp_path / "j", network=ALL_NETWORK, cache=cache_dir) as recorder:
        guest = Remote(recorder)
        listener, port = listen(guest)
        with connect(port) as client:
            client.sendall(b"x")
            fd = accept(guest, listener)
            receive(guest, fd)
            send(guest, fd, b"y")
            guest("sock_status", fd, DATA)
            guest("sock_get_opt_flag", fd, SocketOption.NO_DELAY, DATA)
    events = events_of(tmp_path / "j")
    for at, event in enumerate(events):
        if isinstance(event, HostResult) and event.value:
            other = alter_event(event, value=value)
        elif isinstance(event, BytesReceived):
            sender = SocketAddress(ip_address("::1"), 1)
            other = alter_event(event, sender=sender, data=bytes(2000))
        else:
            continue
        change = partial(replace_event, index=at, event=other)
        bad = rewrite(tmp_path / "j", tmp_path / f"{at}", change)
        with (
            journal.resume(bad, cache=cache_dir) as recorder,
            pytest.raises(journal.JournalError) as caught,
        ):
            recorder.wait(DEADLINE_SECONDS)
        assert len(str(caught.value).splitlines()) == 1


def record_every_call(  # long: it makes each call once
    path: Path, cache: Path, witness: Witness | None = None
) -> list[bytes]:
    """Record a guest that makes each kind of call, and return its orders. No call waits.

    ``witness`` observes the guest.
    """
    orders: list[bytes] = []

    def order(guest: Remote, name: str, *arguments: int, data: bytes = b"") -> Answer:
        orders.append(encode_order(name, *arguments, data=data))
        return guest(name, *arguments, data=data)

    iov = (DATA + 48).to_bytes(4, "little") + (9).to_bytes(4, "little")
    packed = iov.ljust(48, b"\0") + b"some data"
    recorder = journal.record(REMOTE, path, network=ALL_NETWORK, cache=cache)
    if witness is not None:
        witness.observe(recorder)
    with recorder:
        call = partial(order, Remote(recorder))
        fd = call("sock_open", INET4, STREAM, 0, DATA).number
        assert call("fd_fdstat_set_flags", fd, NONBLOCK).errno == 0
        assert call("sock_set_opt_flag", fd, SocketOption.KEEP_ALIVE, 1).errno == 0
        assert call("sock_bind", fd, DATA, data=inet4(0)).errno == 0
        assert call("sock_listen", fd, 5).errno == 0
        limit = b"\1".ljust(8, b"\0") + (1 << 40).to_bytes(8, "little")
        time_limit = ("sock_set_opt_time", fd, SocketOption.ACCEPT_TIMEOUT, DATA)
        assert call(*time_limit, data=limit).errno == 0
        port = call("sock_addr_local", fd, DATA).port
        client = call("sock_open", INET4, STREAM, 0, DATA).number
        assert call("fd_fdstat_set_flags", client, NONBLOCK).errno == 0
        connected = call("sock_connect", client, DATA, data=inet4(port))
        assert connected.errno in (0, Errno.INPROGRESS)
        accepted = call("sock_accept", fd, NONBLOCK, DATA)
        assert accepted.errno == 0
        assert call("sock_status", client, DATA).data[0] == OPENED
        assert call("sock_send", client, DATA, 1, 0, DATA + 8, data=packed).errno == 0
        receive_order = ("sock_recv", accepted.number, DATA, 1, 0, DATA + 8, DATA + 12)
        assert call(*receive_order, data=packed).data[48:57] == b"some data"
        assert call("sock_get_opt_flag", fd, SocketOption.KEEP_ALIVE, DATA).data[0] == 1
        assert call("sock_shutdown", client, 2).errno == 0
        assert call(*receive_order, data=packed).data[8] == 0
        datagrams = call("sock_open", INET4, DGRAM, 0, DATA).number
        assert call("fd_fdstat_set_flags", datagrams, NONBLOCK).errno == 0
        assert call("sock_bind", datagrams, DATA, data=inet4(0)).errno == 0
        joined = call("sock_join_multicast_v4", datagrams, DATA, DATA + 4, data=GROUP)
        assert joined.errno == 0
        here = call("sock_addr_local", datagrams, DATA).data[:8]
        to = (iov + here).ljust(48, b"\0") + b"some data"
        sent = call("sock_send_to", datagrams, DATA, 1, 0, DATA + 8, DATA + 16, data=to)
        assert sent.errno == 0
        assert call("sock_connect", datagrams, DATA, data=here).errno == 0
        assert call(receive_order[0], datagrams, *receive_order[2:], data=packed).errno == 0
    return orders


@pytest.mark.deep
@pytest.mark.filterwarnings("ignore::journal.engine.SocketLost")  # Cuts before an option.
def test_every_cut_of_a_journal_with_connections_goes_on(
    tmp_path: Path, cache_dir: Path, budget: Budget
) -> None:
    orders = record_every_call(tmp_path / "whole", cache_dir)
    frames = frames_of(tmp_path / "whole")
    first = next(at for at, frame in enumerate(frames) if frame.tag == StreamRead.tag)
    for count in budget.spend(range(first, len(frames) + 1), 5):
        cut = rewrite(tmp_path / "whole", tmp_path / f"{count}", keep_first(count))
        heard = sum(frame.tag == StreamRead.tag for frame in frames[:count])
        with journal.resume(cut, network=ALL_NETWORK, cache=cache_dir) as recorder:
            recorder.feed(b"".join(orders[heard:]))
            answers = read_answers(recorder, len(orders))
            printed = recorder.stdout
        assert {answer.errno for answer in answers} <= ERRNOS, f"cut at {count}"
        with journal.resume(cut, cache=cache_dir) as again:
            resume_remote(again)
            assert again.stdout == printed, f"cut at {count}"


def test_a_rebuild_has_what_the_guest_knew_before_each_call(
    tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, witness = tmp_path / "j", Witness(monkeypatch)
    record_every_call(path, cache_dir, witness)
    check_each(Fresh.of(path), rows_of(path), witness.seen)
    upto, wanted = witness.seen[-1]
    fresh = Fresh.of(path)
    rebuild_state(fresh.context, batches_of(rows_of(path)), upto)
    fresh.stand(wanted)
    assert fresh.described() == wanted


@pytest.mark.deep
def test_a_forged_result_never_breaks_a_rebuild(tmp_path: Path, cache_dir: Path) -> None:
    record_every_call(tmp_path / "j", cache_dir)
    rows = rows_of(tmp_path / "j")
    for at, (seq, tag, payload, time) in enumerate(rows):
        for position in range(min(len(payload), 40)):
            damaged = bytearray(payload)
            damaged[position] ^= 0xFF
            fresh = Fresh.of(tmp_path / "j")
            changed = [*rows[:at], (seq, tag, bytes(damaged), time), *rows[at + 1 :]]
            with suppress(journal.JournalError):
                rebuild_state(fresh.context, batches_of(changed), rows[-1][0])
