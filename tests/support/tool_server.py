"""A server that starts commands of journaltool in forked children, with all modules imported.

The start of Python and its imports take most of the time of a short command. The server does both
once for all tests of a worker. Each command still is a process of its own, with its own directory,
environment, standard streams and signals.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.programs import ROOT

_MESSAGE_SIZE_MAX = 1 << 16
_STREAM_COUNT = 3
_PACKAGES = ("journal", "journaltool")

Done = subprocess.CompletedProcess[bytes]


class ToolServer:
    """The server of the calling process. It starts with the first command."""

    def __init__(self) -> None:
        self._is_free = threading.Lock()
        self._owner = 0
        self._socket: socket.socket

    def run(
        self,
        arguments: Sequence[str],
        *,
        at: Path,
        stdin: bytes,
        env: Mapping[str, str],
        seconds: float,
    ) -> Done | None:
        """Run a command to its end, or return None if the server cannot run it now."""
        request = json.dumps([arguments, str(at), dict(env)]).encode()
        if len(request) > _MESSAGE_SIZE_MAX or not self._is_free.acquire(blocking=False):
            return None
        try:
            if self._owner != os.getpid():  # A forked test does not share the server of its parent.
                self._start()
            return self._run(request, arguments, stdin, seconds)
        finally:
            self._is_free.release()

    def _start(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._owner = os.getpid()
        # The streams are pipes, so that Python opens them as it opens those of a command.
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.tool_server", str(theirs.fileno())],
            cwd=ROOT,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        theirs.close()
        atexit.register(self._stop, process)

    def _stop(self, process: subprocess.Popen[bytes]) -> None:
        if self._owner == os.getpid():
            self._socket.close()
            process.communicate()

    def _run(self, request: bytes, arguments: Sequence[str], stdin: bytes, seconds: float) -> Done:
        (stdin_end, to_stdin), (from_stdout, stdout_end), (from_stderr, stderr_end) = (
            os.pipe() for _ in range(_STREAM_COUNT)
        )
        ends = [stdin_end, stdout_end, stderr_end]
        socket.send_fds(self._socket, [request], ends)
        for end in ends:
            os.close(end)
        pid = int(self._socket.recv(_MESSAGE_SIZE_MAX))
        try:
            stdout, stderr = _exchange(to_stdin, stdin, from_stdout, from_stderr, seconds)
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            raise
        finally:
            code = int(self._socket.recv(_MESSAGE_SIZE_MAX))
        return subprocess.CompletedProcess(list(arguments), code, stdout, stderr)


def _exchange(
    to_stdin: int, stdin: bytes, from_stdout: int, from_stderr: int, seconds: float
) -> tuple[bytes, bytes]:
    """Write the input of a process, and return its output and its errors."""
    writer = threading.Thread(target=_write_and_close, args=(to_stdin, stdin))
    writer.start()
    found = {from_stdout: b"", from_stderr: b""}
    deadline = time.monotonic() + seconds
    with selectors.DefaultSelector() as waiting:
        for stream in found:
            waiting.register(stream, selectors.EVENT_READ)
        while waiting.get_map():
            ready = waiting.select(max(0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError(f"the command did not end in {seconds} seconds")
            for stream in (key.fd for key, _ in ready):
                part = os.read(stream, 1 << 16)
                found[stream] += part
                if not part:
                    waiting.unregister(stream)
                    os.close(stream)
    writer.join()
    return found[from_stdout], found[from_stderr]


def _write_and_close(descriptor: int, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError), os.fdopen(descriptor, "wb") as file:
        file.write(data)


def _serve(connection: socket.socket) -> None:
    """Fork a child for each request, and return in the child."""
    while True:
        request, streams, _, _ = socket.recv_fds(connection, _MESSAGE_SIZE_MAX, _STREAM_COUNT)
        if not request:  # The tests have ended.
            sys.exit()
        pid = os.fork()
        if pid == 0:
            connection.close()
            arguments, folder, environment = json.loads(request)
            _become_command(arguments, folder, environment, streams)
            return
        for stream in streams:
            os.close(stream)
        connection.send(str(pid).encode())
        _, status = os.waitpid(pid, 0)
        connection.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become_command(
    arguments: list[str], folder: str, environment: dict[str, str], streams: list[int]
) -> None:
    """Make this process what ``python -m journaltool`` is at its start."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[1:] = arguments
    sys.path[0] = folder


def _import_all() -> None:
    """Import each module of the packages, without those that this platform has no use for."""
    for package in _PACKAGES:
        path = importlib.import_module(package).__path__
        for module in pkgutil.walk_packages(path, f"{package}."):
            if not module.name.endswith("__main__"):
                with contextlib.suppress(ImportError):
                    importlib.import_module(module.name)


if __name__ == "__main__":
    _import_all()
    gc.freeze()  # The collector of a child would otherwise copy the pages of what is shared.
    _serve(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_module("journaltool", run_name="__main__", alter_sys=True)
