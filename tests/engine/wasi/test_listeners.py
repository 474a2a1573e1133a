"""Sockets of preview 1: listeners that a guest has from its start, and their connections."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest

import journal
from journal.engine import (
    ALL_NETWORK,
    NO_NETWORK,
    ExitKind,
    HostMount,
    MemoryMount,
    RunResult,
)
from journal.engine.wasm.binary import CUSTOM, add_size_prefix, encode_section
from journal.events.inputs import BytesReceived
from journal.events.process import Listener
from journal.events.snapshots import Trigger
from journal.events.sockets import SocketSend
from journal.events.wire_types import SocketAddress
from journal.wasi_abi import EVENT, Errno
from tests.support.deadlines import DEADLINE_SECONDS, wait_until
from tests.support.remote_guest import DATA, REMOTE, Remote
from tests.support.rewrites import alter_event, events_of, replace_event, rewrite
from tests.support.snapshot_runs import snapshots_in, triggers_in
from tests.support.wasix_sockets import (
    accept,
    expect_note,
    read,
    receive,
    resume_remote,
    send,
)

FIRST = 4  # After the standard streams and the memory root.
NONBLOCK = 4
SUBSCRIPTION = struct.Struct("<QB7xI28x")
READ, WRITE = 1, 2


@contextmanager
def record(path: Path, cache: Path, count: int = 1) -> Iterator[tuple[Remote, list[int]]]:
    """Yield a guest with listeners, and their ports."""
    listeners = ["127.0.0.1:0"] * count
    with journal.record(REMOTE, path, listeners=listeners, cache=cache) as recorder:
        yield Remote(recorder), ports_of(path)


def ports_of(path: Path) -> list[int]:
    return [event.addr.port for event in events_of(path) if isinstance(event, Listener)]


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_SECONDS)


def test_a_guest_serves_a_client_through_its_listener(tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "j"
    with record(path, cache_dir) as (guest, (port,)):
        assert guest("fd_prestat_get", FIRST, DATA).errno == Errno.BADF
        assert guest("fd_fdstat_get", FIRST, DATA).data[0] == 6
        with connect(port) as client:
            fd = accept(guest, FIRST)
            assert fd == FIRST + 1
            client.sendall(b"request")
            assert receive(guest, fd, 4)[1:3] == (b"requ", 4)
            assert read(guest, fd).data == b"est"
            assert send(guest, fd, b"ans").number == 3
            assert send(guest, fd, b"wer", call="fd_write").number == 3
            assert client.recv(6, socket.MSG_WAITALL) == b"answer"
            assert guest("sock_shutdown", fd, 2).errno == 0
            assert client.recv(1) == b""
            client.sendall(b"rest")
            client.shutdown(socket.SHUT_WR)
            assert receive(guest, fd).data == b"rest"
            assert receive(guest, fd).data == b""
        assert guest("fd_close", fd).errno == 0
        guest.end()
        printed = guest.recorder.stdout
    received = [event.data for event in events_of(path) if isinstance(event, BytesReceived)]
    assert received == [b"requ", b"est", b"rest", b""]
    assert [e.data for e in events_of(path) if isinstance(e, SocketSend)] == [b"ans", b"wer"]
    with journal.resume(path, cache=cache_dir) as again:
        assert again.files == {}  # Reading the files replays the journal.
        assert again.stdout == printed


def test_listeners_are_numbered_after_the_directories(tmp_path: Path, cache_dir: Path) -> None:
    (tmp_path / "d").mkdir()
    mounts: list[HostMount | MemoryMount] = [
        MemoryMount("/a"),
        HostMount(str(tmp_path / "d"), "/b"),
    ]
    listeners = ["127.0.0.1:0", "localhost:0"]
    path = tmp_path / "j"
    with journal.record(
        REMOTE, path, listeners=listeners, mounts=mounts, cache=cache_dir
    ) as recorder:
        events = [event for event in events_of(path) if isinstance(event, Listener)]
        assert [event.fd for event in events] == [5, 6]
        with connect(events[1].addr.port):
            assert accept(Remote(recorder), 6) == 7


def test_a_program_in_go_has_a_listener_that_does_not_wait(tmp_path: Path, cache_dir: Path) -> None:
    field = add_size_prefix(b"language") + b"\1" + add_size_prefix(b"Go") + add_size_prefix(b"1")
    module = REMOTE + encode_section(CUSTOM, add_size_prefix(b"producers") + b"\1" + field)
    path, listeners = tmp_path / "j", ["127.0.0.1:0"]
    with journal.record(module, path, listeners=listeners, cache=cache_dir) as recorder:
        guest = Remote(recorder)
        assert guest("fd_fdstat_get", FIRST, DATA).data[2] == NONBLOCK
        assert guest("sock_accept", FIRST, 0, DATA).errno == Errno.AGAIN
        guest.end()
    with journal.resume(path, cache=cache_dir) as again:
        assert again.wait(DEADLINE_SECONDS) == RunResult(ExitKind.EXITED, 0)


@pytest.mark.parametrize(
    "text", ["", "8080", "127.0.0.1", "::1:80", "[127.0.0.1]:80", "name:80", "127.0.0.1:65536"]
)
def test_an_impossible_listener_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(journal.OptionError, match="listeners"):
        journal.record(REMOTE, tmp_path / "j", listeners=[text])


def test_a_port_that_is_taken_leaves_no_journal(tmp_path: Path, cache_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(journal.OptionError, match=f"listen at {address}: Address already"):
            journal.record(REMOTE, tmp_path / "j", listeners=[address], cache=cache_dir)
    assert not (tmp_path / "j").exists()


def test_flags_of_preview_1_are_those_of_the_host(tmp_path: Path, cache_dir: Path) -> None:
    with record(tmp_path / "j", cache_dir) as (guest, (port,)):
        assert guest("fd_fdstat_set_flags", FIRST, NONBLOCK).errno == 0
        assert guest("sock_accept", FIRST, NONBLOCK, DATA).errno == Errno.AGAIN
        assert guest("sock_accept", FIRST, 1, DATA).errno == Errno.INVAL
        with connect(port) as client:
            wait_until(lambda: guest("sock_accept", FIRST, NONBLOCK, DATA).errno == 0)
            fd = FIRST + 1
            assert guest("fd_fdstat_get", fd, DATA).data[2] == NONBLOCK
            assert receive(guest, fd).errno == Errno.AGAIN
            assert read(guest, fd).errno == Errno.AGAIN
            assert guest("fd_fdstat_set_flags", fd, 0).errno == 0
            assert receive(guest, fd, flags=8).errno == Errno.AGAIN
            client.sendall(b"peek")
            assert receive(guest, fd, flags=1).data == b"peek"
            assert receive(guest, fd, 2).data == b"pe"
            client.sendall(b"s of all")
            assert receive(guest, fd, 10, flags=2).data == b"eks of all"
            assert guest("sock_shutdown", fd, 0).errno == Errno.INVAL


def test_a_poll_reports_connections_bytes_and_room(tmp_path: Path, cache_dir: Path) -> None:
    with record(tmp_path / "j", cache_dir) as (guest, (port,)):
        with connect(port) as client:
            assert poll(guest, (7, READ, FIRST)) == [(7, READ)]
            fd = accept(guest, FIRST)
            assert poll(guest, (1, READ, fd), (2, WRITE, fd)) == [(2, WRITE)]
            client.sendall(b"x")
            assert poll(guest, (1, READ, fd)) == [(1, READ)]
        assert receive(guest, fd).data == b"x"
        assert poll(guest, (1, READ, fd)) == [(1, READ)]
        assert receive(guest, fd).data == b""


def poll(guest: Remote, *subscriptions: tuple[int, int, int]) -> list[tuple[int, int]]:
    """Return the number and the type of each event; a subscription has number, type and fd."""
    packed = b"".join(SUBSCRIPTION.pack(*each) for each in subscriptions)
    count = DATA + 120  # After the subscriptions, whose place the events take.
    answer = guest("poll_oneoff", DATA, DATA, len(subscriptions), count, data=packed)
    assert answer.errno == 0
    events = EVENT.iter_unpack(answer.data[: EVENT.size * answer.data[120]])
    return [(number, kind) for number, _, kind, *_ in events]


def test_a_served_guest_is_resumed_and_listens_again(tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "j"
    with record(path, cache_dir) as (guest, (port,)), connect(port) as client:
        fd = accept(guest, FIRST)
        client.sendall(b"x")
        assert receive(guest, fd).data == b"x"
        guest.recorder.stop()
        guest.recorder.wait()
    with journal.resume(path, network=ALL_NETWORK, cache=cache_dir) as recorder:
        again = resume_remote(recorder)
        assert poll(again, (1, READ, fd)) == [(1, READ)]
        assert receive(again, fd).errno == Errno.CONNRESET
        assert receive(again, fd)[:2] == (0, b"")
        assert send(again, fd, b"lost").errno == Errno.PIPE
        with connect(port) as client:
            other = accept(again, FIRST)
            client.sendall(b"y")
            assert receive(again, other).data == b"y"
        again.end()


def test_a_guest_without_permission_to_listen_again_is_told(
    tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "j"
    with record(path, cache_dir) as (_, (port,)):
        pass
    with (
        expect_note(f"socket {FIRST} at 127.0.0.1:{port} .* no network now"),
        journal.resume(path, network=NO_NETWORK, cache=cache_dir) as recorder,
    ):
        again = resume_remote(recorder)
        assert again("sock_accept", FIRST, 0, DATA).errno == Errno.ACCES


LISTENER = Listener(fd=FIRST, addr=SocketAddress(ip_address("127.0.0.1"), 1), non_blocking=False)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"fd": 9}, "listener 0 has descriptor 9: it must be 4"),
        ({"addr": SocketAddress(ip_address("127.0.0.1"), 0)}, "the address of listener 0"),
        ({"addr": SocketAddress(ip_address("127.0.0.1"), 1, 1)}, "the address of listener 0"),
    ],
)
def test_a_listener_that_no_recorder_writes_is_refused(
    changes: dict[str, object], reason: str, tmp_path: Path, cache_dir: Path
) -> None:
    with record(tmp_path / "j", cache_dir):
        pass
    at = next(i for i, e in enumerate(events_of(tmp_path / "j")) if isinstance(e, Listener))
    other = alter_event(LISTENER, **changes)
    bad = rewrite(tmp_path / "j", tmp_path / "bad", lambda all: replace_event(all, at, other))
    with pytest.raises(journal.NotResumable, match=reason):
        journal.resume(bad, cache=cache_dir)


@pytest.mark.deep
def test_a_guest_with_a_listener_listens_first_when_it_waits_for_a_connection(
    tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "j"
    snapshots = journal.engine.SnapshotOptions(on=frozenset({Trigger.FIRST_LISTEN}))
    clock = struct.pack("<QB7xI4xQQH6x", 7, 0, 1, 1, 0, 0)
    with journal.record(
        REMOTE, path, listeners=["127.0.0.1:0"], snapshots=snapshots, cache=cache_dir
    ) as recorder:
        guest = Remote(recorder)
        assert guest("poll_oneoff", DATA, DATA, 1, DATA + 96, data=clock).errno == 0
        assert triggers_in(path) == []
        both = SUBSCRIPTION.pack(9, 1, FIRST) + clock
        assert guest("poll_oneoff", DATA, DATA, 2, DATA + 96, data=both).errno == 0
        guest.end()
    (info,) = snapshots_in(path)
    assert (info.trigger, info.function) == (Trigger.FIRST_LISTEN, "poll_oneoff")
