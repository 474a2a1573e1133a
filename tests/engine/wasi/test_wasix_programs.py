"""Programs that serve, spawn and edit, with clients that this project did not write.

Each is recorded, killed, resumed and replayed.
"""

from __future__ import annotations

import http.client
import shutil
import subprocess
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import journal
from tests.support.command_line import run_tool
from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.killed_runs import CACHE
from tests.support.programs import ROOT, guest, program
from tests.support.servers import PORT, Server, pick_host

LINES = ROOT / "fixtures" / "programs" / "lines.wasm"

#: Script of the server in Python: its listener is a descriptor that it did not open itself. This
#: build of CPython cannot wait in ``select``, and cannot close a socket.
PYTHON_SERVER = """
import contextlib, http.server, socket, socketserver

class Handler(http.server.BaseHTTPRequestHandler):
    count = 0
    def do_GET(self):
        Handler.count += 1
        body = f"{Handler.count} {self.path}\\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def address_string(self):
        return "a client"
    def log_message(self, *_):
        print("served", self.path, flush=True)

class Server(http.server.HTTPServer):
    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, fileno=FD)
        self.server_address = ("127.0.0.1", 0)
        self.RequestHandlerClass = Handler
        socketserver.BaseServer.__init__(self, self.server_address, Handler)
    def shutdown_request(self, request):
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_WR)
        request.detach()

print("serving", flush=True)
server = Server()
while True:
    server._handle_request_noblock()
"""


def require(command: str) -> str:
    """Return the path of a client, or skip the test."""
    path = shutil.which(command)
    if path is None:
        pytest.skip(f"{command} is missing (tools/system.sh)")
    return path


def ask(*command: str, stdin: bytes = b"") -> bytes:
    """Return the output of a client."""
    done = subprocess.run(
        command, input=stdin, capture_output=True, check=False, timeout=DEADLINE_SECONDS
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Run a server until the block ends, and check the replay of its journal."""
    with server:
        server.wait_until_serving()
        yield server
    for each in (False, True):
        found = journal.verify_replay(server.journal, cache=CACHE, from_each_snapshot=each)
        assert found.divergence is None
        assert not [one for one in found.checks if one.matches is False]


def restart(server: Server) -> None:
    """Kill a server, resume it, and wait until it serves again."""
    server.kill()
    server.start()
    server.wait_until_serving()


def listening(module: Path, arguments: list[str], folder: Path) -> Server:
    """Return a server that gets a listener after its directory ``/``.

    Its stacks are not saved, because a large program takes minutes to instrument.
    """
    host = pick_host()
    return Server(
        module,
        arguments,
        folder,
        host=host,
        options=["--stacks", "never"],
        recording=["--env", "LISTENER=4", "--tcp-listen", f"{host}:{PORT}"],
    )


# Go: net/http over net.FileListener


def get(server: Server, path: str, body: bytes | None = None) -> bytes:
    """Return the answer of an HTTP server to Python's own client."""
    with closing(http.client.HTTPConnection(server.host, PORT, timeout=DEADLINE_SECONDS)) as client:
        client.request("GET" if body is None else "POST", path, body)
        answer = client.getresponse()
        assert answer.status == http.client.OK
        return answer.read()


@pytest.mark.deep
def test_an_http_server_in_go_serves_any_client_and_survives(tmp_path: Path) -> None:
    with serving(listening(program("http"), [], tmp_path)) as server:
        url = f"http://{server.host}:{PORT}"
        assert get(server, "/count") == b"1\n"
        assert ask(require("curl"), "--silent", f"{url}/echo?text=curl") == b"curl"
        body = bytes(range(256)) * 1000
        assert get(server, "/body", body) == f"{len(body)} {zlib.crc32(body):08x}\n".encode()
        assert len(ask("curl", "--silent", f"{url}/large?size=1000000")) == 1_000_000
        restart(server)
        assert get(server, "/count") == b"2\n"
        assert get(server, "/add?id=7") == b"7 1 1\n"
        restart(server)
        assert get(server, "/add?id=7") == b"7 2 1\n"


@pytest.mark.deep
def test_an_http_server_in_go_serves_a_benchmark_of_apache(tmp_path: Path) -> None:
    ab = require("ab")
    with serving(listening(program("http"), [], tmp_path)) as server:
        report = ask(ab, "-n", "200", "-c", "8", f"http://{server.host}:{PORT}/count")
        assert b"Complete requests:      200" in report
        assert get(server, "/count") == b"201\n"


# Rust: std::net::TcpListener::from_raw_fd


@pytest.mark.deep
def test_a_server_in_rust_serves_socat_and_survives(tmp_path: Path) -> None:
    require("socat")
    with serving(listening(LINES, [], tmp_path)) as server:
        to = ("socat", "-t", "10", "-", f"TCP:{server.host}:{PORT}")
        assert ask(*to, stdin=b"one\ntwo\n") == b"1 ONE\n2 TWO\n"
        restart(server)
        assert ask(*to, stdin=b"three\nsum\n") == b"3 THREE\n4 1545\n"
        ask(*to, stdin=b"end\n")
        assert server.wait() == 0


# CPython: http.server


@pytest.mark.deep
def test_an_http_server_in_python_serves_any_client_and_survives(tmp_path: Path) -> None:
    script = PYTHON_SERVER.replace("FD", "4")
    with serving(listening(program("cpython"), ["-c", script], tmp_path)) as server:
        assert get(server, "/one") == b"1 /one\n"
        assert ask(require("curl"), "--silent", f"http://{server.host}:{PORT}/two") == b"2 /two\n"
        restart(server)
        assert get(server, "/three") == b"3 /three\n"


# C: a key-value server and its client, on declarations of WASIX


def serve_kv(folder: Path) -> Server:
    """Return a key-value server."""
    host = pick_host()
    return Server(guest("kv"), [f"{host}:{PORT}"], folder, host=host, recording=["--net", "all"])


@pytest.mark.deep
def test_a_key_value_server_serves_a_client_that_is_a_guest_too(tmp_path: Path) -> None:
    with serving(serve_kv(tmp_path)) as server:
        address = f"{server.host}:{PORT}"
        for first in (0, 300):
            client: list[str | Path] = [guest("kv_client"), address, "50", str(first)]
            path = tmp_path / f"client-{first}.journal"
            rules = ("--net", f"connect={address}", "--net", f"listen=udp:{server.host}:0")
            done = run_tool("run", *rules, "-j", path, *client, at=tmp_path)
            assert done.stdout == b"150 of 150 answers are right\n", done.stderr.decode()
            assert run_tool("replay", "--verify", path, at=tmp_path).returncode == 0
            restart(server)
        with server.connect() as connection:
            connection.sendall(b"total\ntwice\nstop\n")
            with connection.makefile("rb") as answers:
                assert answers.readlines() == [b"total 300\n", b"twice 0\n"]
        assert server.wait() == 0


@pytest.mark.deep
def test_a_client_that_never_reads_does_not_hold_up_the_others(tmp_path: Path) -> None:
    with serving(serve_kv(tmp_path)) as server, server.connect() as lazy:
        for number in range(4):
            lazy.sendall(b"large %d 900000\n" % number)
        with server.connect() as other, other.makefile("rb") as answers:
            for number in range(100, 110):
                other.sendall(b"put %d key value\n" % number)
                assert answers.readline() == b"ok %d 1\n" % number


# A shell: children with pipes


@pytest.mark.deep
def test_a_shell_runs_pipelines_of_children(tmp_path: Path) -> None:
    shell = guest("shell")
    commands = [f"--command={name}={shell}" for name in ("emit", "upper", "sum", "fail")]
    path = tmp_path / "shell.journal"
    pipelines = (
        "emit 1000 | upper | sum",
        "emit 3 | upper",
        "fail 7",
        "emit 20000 | upper | upper | sum",
    )
    done = run_tool("run", *commands, "-j", path, shell, *pipelines, at=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().splitlines() == [
        "1000 lines, sum 500500",
        "exit codes: 0 0 0",
        *("LINE 1", "LINE 2", "LINE 3", "exit codes: 0 0"),
        "exit codes: 7",
        "20000 lines, sum 200010000",
        "exit codes: 0 0 0 0",
    ]
    assert run_tool("replay", "--verify", path, at=tmp_path).returncode == 0
