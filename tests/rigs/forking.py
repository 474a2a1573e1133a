"""A forking server with writers: a tree of processes, each of which obeys the test.

The first process, the *origin*, opens no journal; it only imports the library and forks the first
process of each example. Each process connects to the test, so any of them can be told to append,
sync, close, fork or die, in any order.

    python -m tests.rigs.forking SOCKET
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Self

from journal.errors import JournalError
from journal.log import CommitPolicy, RollPolicy, Writer
from tests.support.deadlines import DEADLINE_SECONDS

POLICIES = {
    "explicit": CommitPolicy.EXPLICIT,
    "every": CommitPolicy.EVERY,
    "group": CommitPolicy.group(3, 1.0),
    "interval": CommitPolicy.interval(0.001),
    "none": CommitPolicy.NONE,
}
ROLL = RollPolicy(size_bytes=1 << 12)
PADDING = "." * 200


def make_payload(life: int, number: int) -> bytes:
    """Return the payload of event ``number``, which a writer of this ``life`` appends."""
    return f"{life}:{number}:{PADDING}".encode()


class _Server:
    """One process of the tree. Its answers are the results of commands, or names of errors."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._writers: dict[str, Writer] = {}
        self._bursts: dict[str, threading.Thread] = {}
        self._connect()

    def serve(self) -> None:
        """Obey until the test ends this process."""
        while True:
            line = self._channel.readline()
            if not line:
                os._exit(0)  # The test has ended.
            command, *arguments = json.loads(line)
            try:
                result = getattr(self, f"_do_{command}")(*arguments)
            except JournalError as error:
                result = type(error).__name__
            self._answer(result)

    def _connect(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(self._address)
        self._channel: IO[str] = self._socket.makefile("rw")
        self._answer(os.getpid())

    def _answer(self, result: object) -> None:
        self._channel.write(json.dumps(result) + "\n")
        self._channel.flush()

    def _do_fork(self) -> int:
        child = os.fork()
        if child == 0:
            self._channel.close()
            self._socket.close()
            self._bursts.clear()
            self._connect()
        return child

    def _do_exit(self) -> None:
        self._answer(0)
        sys.exit(0)

    def _do_open(self, path: str, policy: str, has_segments: bool) -> int:
        writer = Writer(path, commit=POLICIES[policy], roll=ROLL if has_segments else None)
        self._writers[path] = writer
        return writer.next_seq

    def _do_append(self, path: str, life: int, first: int, count: int) -> int:
        writer = self._writers[path]
        for number in range(first, first + count):
            writer.append_frame(200, make_payload(life, number))
        return writer.next_seq

    def _do_burst(self, path: str, life: int, first: int, count: int) -> None:
        """Append and sync in a thread, and return at once."""

        def append() -> None:
            self._do_append(path, life, first, count)
            self._writers[path].sync()

        self._bursts[path] = threading.Thread(target=append)
        self._bursts[path].start()

    def _do_join(self, path: str) -> None:
        self._bursts.pop(path).join()

    def _do_sync(self, path: str) -> int:
        self._writers[path].sync()
        return self._writers[path].durable_upto

    def _do_wait(self, path: str) -> bool:
        return self._writers[path].wait(self._writers[path].next_seq - 1)

    def _do_close(self, path: str) -> None:
        with self._writers[path]:
            pass

    def _do_drop(self, path: str) -> None:
        del self._writers[path]
        gc.collect()


class ServedProcess:
    """A process of the tree, as the test sees it."""

    def __init__(self, connection: socket.socket) -> None:
        self._channel = connection.makefile("rw")
        connection.close()
        self.pid = self._read()
        self._death = os.pidfd_open(self.pid)

    def call(self, command: str, *arguments: object) -> Any:
        """Run a command in the process, and return its result."""
        self._channel.write(json.dumps([command, *arguments]) + "\n")
        self._channel.flush()
        return self._read()

    def kill(self) -> None:
        """Kill the process by SIGKILL."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._death, signal.SIGKILL)
        self.wait()

    def wait(self) -> None:
        """Wait until the process has ended, and with it its descriptors and locks."""
        poll = select.poll()
        poll.register(self._death, select.POLLIN)
        assert poll.poll(1000 * DEADLINE_SECONDS), f"process {self.pid} does not end"
        os.close(self._death)
        self._channel.close()

    def _read(self) -> Any:
        line = self._channel.readline()
        assert line, "the process died"
        return json.loads(line)


class ForkingServer:
    """The origin, and the socket to which each process of the tree connects."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        address = str(Path(self._folder.name, "socket"))
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.settimeout(DEADLINE_SECONDS)
        self._listener.bind(address)
        self._listener.listen()
        self._errors = Path(self._folder.name, "errors")
        with self._errors.open("w") as errors:
            command = [sys.executable, "-m", "tests.rigs.forking", address]
            self._process = subprocess.Popen(command, stderr=errors)
        self._origin = self._accept()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._origin.kill()
        self._process.wait()
        self._listener.close()
        self._folder.cleanup()

    def begin(self) -> ServedProcess:
        """Return a new process without journals."""
        return self.fork(self._origin)

    def fork(self, parent: ServedProcess) -> ServedProcess:
        """Fork a process, and return its child."""
        child = parent.call("fork")
        process = self._accept()
        assert process.pid == child
        assert process._read() == 0  # The child's own result of the fork.
        return process

    def errors(self) -> str:
        """Return what all processes have printed on stderr."""
        return self._errors.read_text()

    def _accept(self) -> ServedProcess:
        connection, _ = self._listener.accept()
        connection.settimeout(DEADLINE_SECONDS)
        return ServedProcess(connection)


if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # The system reaps the children.
    _Server(sys.argv[1]).serve()
