"""Kill campaign with servers: no answer is lost and no request is executed twice.

Clients connect, send halves of requests, disconnect and connect again, while the server is killed
by SIGKILL and resumed. Each request has a number of its own, and the server counts the numbers.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

import journal
from journal.events.sockets import SocketSend
from tests.support.budget import Budget
from tests.support.deadlines import DEADLINE_SECONDS, wait_until
from tests.support.killed_runs import CACHE
from tests.support.programs import guest, program
from tests.support.servers import PORT, Server, pick_host
from tests.support.snapshot_runs import snapshots_in

CLIENTS = 3
KILLS_MAX = 200
ANSWERS_BETWEEN = (1, 12)
PAUSE_SECONDS_MAX = 0.02
PAYLOAD_SIZES = (1, 10, 90)
LEAVING = 0.2
WAYS = (
    *("send it whole",) * 5,
    *("send two halves",) * 2,
    "send a half and leave",
    "leave without the answer",
)

SNAPSHOTS = {"no snapshots": ("--no-snapshots",), "snapshots": ("--snapshot-events", "60")}


class Client(Protocol):
    """Client that makes one request after the other, each with a number of its own."""

    def ask(self, chance: random.Random, number: int) -> bytes | None:
        """Make a request. Return its answer, or None if the client did not wait for all of it."""

    def close(self) -> None:
        """Close the connection, if there is one."""


class Clients:
    """Threads that ask a server until they are told to stop, whatever happens to it.

    ``answers`` has each answer that a client received completely.
    """

    def __init__(self, seed: str, connect: Callable[[], Client]) -> None:
        self.answers: list[bytes] = []
        self._connect = connect
        self._numbers = itertools.count()
        self._is_over = threading.Event()
        self._failures: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._run, args=(random.Random(f"{seed} {number}"),))
            for number in range(CLIENTS)
        ]

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Ask until the block ends. A failure of a client is raised then."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            for thread in self._threads:
                thread.join(DEADLINE_SECONDS)
        assert not self._failures, self._failures

    def wait_for_answers(self, count: int, server: Server) -> None:
        """Wait until clients have received that many answers more."""
        target = len(self.answers) + count

        def have_come() -> bool:
            server.check_running()
            return len(self.answers) >= target or bool(self._failures)

        wait_until(have_come, "no answers come")

    def _run(self, chance: random.Random) -> None:
        client = self._connect()
        try:
            while not self._is_over.is_set():
                try:
                    answer = client.ask(chance, next(self._numbers))
                except (OSError, http.client.HTTPException):
                    client.close()
                    time.sleep(chance.random() * PAUSE_SECONDS_MAX)
                    continue
                if answer is not None:
                    self.answers.append(answer)
        except BaseException as failure:
            self._failures.append(failure)
        finally:
            client.close()


def kill_often(
    server: Server, clients: Clients, chance: random.Random, kills: Iterator[int]
) -> None:
    """Kill the server at moments between answers, and resume it each time."""
    with clients.asking():
        for _ in kills:
            clients.wait_for_answers(chance.randint(*ANSWERS_BETWEEN), server)
            time.sleep(chance.random() * PAUSE_SECONDS_MAX)
            server.kill()
            server.start()
        clients.wait_for_answers(1, server)


def check_journal(path: Path, answers: list[bytes]) -> None:
    """Check that each answer is in the journal, and that its replay agrees at each snapshot."""
    with journal.Reader(path) as reader:
        sent = b"".join(event.data for event in reader if isinstance(event, SocketSend))
    missing = [answer for answer in answers if answer not in sent]
    assert not missing, missing[:3]
    for each in (False, True):
        found = journal.verify_replay(path, cache=CACHE, from_each_snapshot=each)
        assert found.divergence is None
        assert not [one for one in found.checks if one.matches is False]
        assert found.result is not None


# The key-value server in C


class LineClient:
    """Client of the key-value server, which keeps a connection for several requests."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection: socket.socket | None = None

    def ask(self, chance: random.Random, number: int) -> bytes | None:
        """Make one request, in one of the ways of an unreliable client."""
        if self._connection is None:
            self._connection = self._server.connect()
        connection = self._connection
        value = "v" * chance.choice(PAYLOAD_SIZES)
        request = f"put {number} key{number % 50} {value}\n".encode()
        half = chance.randrange(len(request))
        match chance.choice(WAYS):
            case "send a half and leave":
                connection.sendall(request[:half])
                self.close()
                return None
            case "leave without the answer":
                connection.sendall(request)
                self.close()
                return None
            case "send two halves":
                connection.sendall(request[:half])
                time.sleep(chance.random() * PAUSE_SECONDS_MAX)
                connection.sendall(request[half:])
            case _:
                connection.sendall(request)
        answer = receive_line(connection)
        assert answer == f"ok {number} 1\n".encode()
        if chance.random() < LEAVING:
            self.close()
        return answer

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def receive_line(connection: socket.socket) -> bytes:
    """Return the next line of a connection, or raise ``ConnectionError`` if it ends before."""
    line = b""
    while not line.endswith(b"\n"):
        part = connection.recv(1)
        if not part:
            raise ConnectionError("the connection ends within a line")
        line += part
    return line


def ask_kv(server: Server, request: bytes) -> bytes:
    """Return the answer to a request, in a connection of its own."""
    with server.connect() as connection:
        connection.sendall(request)
        return receive_line(connection)


def run_kv(seed: str, kills: Iterator[int], options: tuple[str, ...], folder: Path) -> Server:
    """Run a campaign with the key-value server, and check its end and its journal."""
    host = pick_host()
    server = Server(
        guest("kv"),
        [f"{host}:{PORT}"],
        folder,
        host=host,
        options=options,
        recording=["--net", f"listen={host}:{PORT}"],
    )
    with server:
        server.wait_until_serving()
        clients = Clients(seed, lambda: LineClient(server))
        kill_often(server, clients, random.Random(seed), kills)
        assert ask_kv(server, b"twice\n") == b"twice 0\n"
        assert int(ask_kv(server, b"total\n").split()[1]) >= len(clients.answers)
        with server.connect() as connection:
            connection.sendall(b"stop\n")
        assert server.wait() == 0, server.errors.read_text()
    check_journal(server.journal, clients.answers)
    assert bool(snapshots_in(server.journal)) == (options != SNAPSHOTS["no snapshots"])
    reports = [line for line in server.output.read_text().splitlines() if line.startswith("did ")]
    assert len(reports) == len(set(reports))
    for answer in clients.answers:
        assert f"did put {answer.split()[1].decode()}" in reports
    return server


def test_a_killed_server_loses_no_answer_and_repeats_no_request(tmp_path: Path) -> None:
    server = run_kv("quick", iter(range(2)), SNAPSHOTS["snapshots"], tmp_path)
    assert server.sessions == 3


@pytest.mark.deep
@pytest.mark.parametrize("options", SNAPSHOTS.values(), ids=SNAPSHOTS)
def test_a_server_may_be_killed_at_any_time(
    options: tuple[str, ...], tmp_path: Path, budget: Budget
) -> None:
    run_kv(str(options), budget.spend(range(KILLS_MAX), 6), options, tmp_path)


# The HTTP server in Go


def ask_http(server: Server, method: str, path: str, is_patient: bool = True) -> bytes | None:
    """Return the answer to a request, or None if the client does not wait for it."""
    connection = http.client.HTTPConnection(server.host, PORT, timeout=DEADLINE_SECONDS)
    with contextlib.closing(connection):
        connection.request(method, path)
        return connection.getresponse().read() if is_patient else None


class HttpClient:
    """Client of the HTTP server, with a connection for each request."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def ask(self, chance: random.Random, number: int) -> bytes | None:
        """Make one request, and wait for its answer in most cases."""
        is_patient = chance.random() > LEAVING
        answer = ask_http(self._server, "POST", f"/add?id={number}", is_patient)
        assert answer is None or answer.split()[:2] == [str(number).encode(), b"1"]
        return answer

    def close(self) -> None:
        """Do nothing: each request closes its connection."""


def run_http(seed: str, kills: Iterator[int], options: tuple[str, ...], folder: Path) -> None:
    """Run a campaign with the HTTP server in Go, and check its end and its journal."""
    host = pick_host()
    server = Server(
        program("http"),
        [],
        folder,
        host=host,
        options=options,
        recording=["--env", "LISTENER=4", "--tcp-listen", f"{host}:{PORT}"],
    )

    with server:
        server.wait_until_serving()
        clients = Clients(seed, lambda: HttpClient(server))
        kill_often(server, clients, random.Random(seed), kills)
        twice = ask_http(server, "GET", "/twice")
        assert twice is not None
        assert twice.startswith(b"0 of ")
        ask_http(server, "GET", "/exit", is_patient=False)
        assert server.wait() == 0, server.errors.read_text()
    check_journal(server.journal, clients.answers)


@pytest.mark.deep
def test_an_http_server_may_be_killed_at_any_time(tmp_path: Path, budget: Budget) -> None:
    options = ("--stacks", "never", "--snapshot-events", "300")
    run_http("executed again", budget.spend(range(KILLS_MAX), 3), options, tmp_path)


@pytest.mark.deep
def test_an_http_server_may_be_killed_with_its_stacks_saved(tmp_path: Path, budget: Budget) -> None:
    if budget.seconds:
        pytest.skip("the program takes minutes to instrument (make campaign)")
    options = ("--snapshot-events", "300")
    run_http("from snapshots", budget.spend(range(KILLS_MAX), 3), options, tmp_path)
