"""Many connections, slow clients, and clients that nobody here wrote."""

from __future__ import annotations

import http.client
import resource
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

import journal
from journal.engine import ALL_NETWORK
from journal.events.sockets import SocketAccepted, SocketSend
from tests.support.budget import Budget
from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.remote_guest import DATA, REMOTE, Remote
from tests.support.rewrites import events_of
from tests.support.wasix_sockets import accept, receive, resume_remote, send
from tests.support.wat import module

FIRST = 4  # After the standard streams and the memory root.
COUNT, CAMPAIGN_COUNT = 1_200, 10_000  # More than the usual limit of open files, 1,024.

#: A guest that accepts COUNT connections, then receives from each one and sends the bytes back. It
#: never waits for one client while another one is ready, because each has sent before.
ECHO = """(module
    (import "wasi_snapshot_preview1" "sock_accept"
        (func $accept (param i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read"
        (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write"
        (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "\\40\\00\\00\\00\\08\\00\\00\\00")
    (func $check (param $errno i32)
        (if (local.get $errno) (then (call $exit (local.get $errno)))))
    (func (export "_start") (local $at i32) (local $fd i32)
        (loop $next
            (call $check (call $accept (i32.const 4) (i32.const 0) (i32.const 32)))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (br_if $next (i32.lt_u (local.get $at) (i32.const COUNT))))
        (local.set $fd (i32.load (i32.const 32)))
        (loop $again
            (call $check (call $read (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 32)))
            (call $check (call $write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 32)))
            (local.set $fd (i32.sub (local.get $fd) (i32.const 1)))
            (local.set $at (i32.sub (local.get $at) (i32.const 1)))
            (br_if $again (local.get $at)))))"""


@contextmanager
def few_descriptors(count: int) -> Iterator[None]:
    """Lower the soft limit of open files, and restore it."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def port_of_listener(recorder: journal.Recorder) -> int:
    process = recorder._process
    assert process is not None
    address = process.context.descriptors.get_socket(FIRST).local_address(process.context, FIRST)
    assert not isinstance(address, bytes)
    return address.port


CLIENTS = """
import resource, socket, sys

port, count = map(int, sys.argv[1:])
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
clients = []
for _ in range(count):
    clients.append(socket.create_connection(("127.0.0.1", port)))
    clients[-1].sendall(b"12345678")
for client in clients:
    assert client.recv(8, socket.MSG_WAITALL) == b"12345678"
"""


@pytest.mark.deep
def test_a_guest_holds_thousands_of_connections(
    tmp_path: Path, cache_dir: Path, budget: Budget
) -> None:
    count = COUNT if budget.seconds else CAMPAIGN_COUNT
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < count + 1000:
        pytest.skip("this machine does not allow so many open files")
    path, echo = tmp_path / "j", module(ECHO.replace("COUNT", str(count)))
    with (
        few_descriptors(1024),
        journal.record(
            echo,
            path,
            listeners=["127.0.0.1:0"],
            durability=journal.engine.Durability.NONE,
            cache=cache_dir,
        ) as recorder,
    ):
        arguments = [str(port_of_listener(recorder)), str(count)]
        subprocess.run([sys.executable, "-c", CLIENTS, *arguments], check=True)
        result = recorder.wait(DEADLINE_SECONDS)
        assert result is not None
        assert result.code == 0
    events = events_of(path)
    assert sum(isinstance(event, SocketAccepted) for event in events) == count
    assert sum(isinstance(event, SocketSend) for event in events) == count


def test_the_limit_of_open_files_is_raised_for_connections(tmp_path: Path, cache_dir: Path) -> None:
    with (
        journal.record(
            REMOTE, tmp_path / "j", listeners=["127.0.0.1:0"], cache=cache_dir
        ) as recorder,
        ExitStack() as stack,
    ):
        guest = Remote(recorder)
        client = stack.enter_context(
            socket.create_connection(("127.0.0.1", port_of_listener(recorder)))
        )
        with few_descriptors(client.fileno() + 1):
            assert accept(guest, FIRST) == FIRST + 1


def test_a_common_client_of_http_is_answered(tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "j"
    with journal.record(REMOTE, path, listeners=["127.0.0.1:0"], cache=cache_dir) as recorder:
        guest, bodies = Remote(recorder), []
        client = http.client.HTTPConnection(
            "127.0.0.1", port_of_listener(recorder), timeout=DEADLINE_SECONDS
        )

        def ask() -> None:
            for name in ("/one", "/two"):
                client.request("GET", name, headers={"Connection": "keep-alive"})
                bodies.append(client.getresponse().read())

        asking = threading.Thread(target=ask)
        asking.start()
        fd = accept(guest, FIRST)
        for _ in range(2):
            request = b""
            while not request.endswith(b"\r\n\r\n"):
                request += receive(guest, fd).data
            body = request.split()[1]
            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
            for part in (head, body):  # A slow server sends halves.
                assert send(guest, fd, part).number == len(part)
        asking.join(DEADLINE_SECONDS)
        client.close()
        assert receive(guest, fd).data == b""
    assert bodies == [b"/one", b"/two"]
    sent = b"".join(event.data for event in events_of(path) if isinstance(event, SocketSend))
    assert sent.count(b"HTTP/1.1 200 OK") == 2


def test_a_reset_before_the_accept_does_not_end_a_server(tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "j"
    with journal.record(REMOTE, path, listeners=["127.0.0.1:0"], cache=cache_dir) as recorder:
        guest, address = Remote(recorder), ("127.0.0.1", port_of_listener(recorder))
        with socket.create_connection(address) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        fd = accept(guest, FIRST)
        assert receive(guest, fd).errno
        assert guest("fd_close", fd).errno == 0
        with socket.create_connection(address) as client:
            fd = accept(guest, FIRST)
            client.sendall(b"x")
            assert receive(guest, fd).data == b"x"
        recorder.stop()
        recorder.wait()
    with journal.resume(path, network=ALL_NETWORK, cache=cache_dir) as again:
        assert resume_remote(again)("fd_fdstat_get", fd, DATA).errno == 0
