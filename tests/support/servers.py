"""Servers of the tests: guests in processes of journaltool that are killed and resumed.

Each server listens at a loopback address of its own, so that no other test has its port.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.support.deadlines import DEADLINE_SECONDS, wait_until
from tests.support.killed_runs import CACHE_HOME

PORT = 8017

_numbers = itertools.count(1)


def pick_host() -> str:
    """Return a loopback address that no other test uses."""
    pid = os.getpid()
    return f"127.{1 + (pid >> 8) % 250}.{pid % 256}.{1 + next(_numbers) % 250}"


class Server:
    """Guest that serves at ``host`` and ``PORT``, in one process after the other.

    ``options`` apply to the recording and to each resume, ``recording`` to the recording alone.
    """

    def __init__(
        self,
        module: Path,
        arguments: Sequence[str],
        folder: Path,
        *,
        host: str,
        options: Sequence[str] = (),
        recording: Sequence[str] = (),
    ) -> None:
        self.host = host
        self.journal = folder / "server.journal"
        self.output = folder / "stdout"
        self.errors = folder / "stderr"
        self._options = list(options)
        self._start = ["run", *recording, "--journal", str(self.journal)]
        self._module = [str(module), *arguments]
        self._process: subprocess.Popen[bytes] | None = None
        self.sessions = 0

    def start(self) -> Self:
        """Record in a new process, or resume if there is a journal."""
        if self.journal.exists():
            command = ["resume", "--quiet", *self._options, str(self.journal)]
        else:
            command = [*self._start, "--quiet", *self._options, *self._module]
        self.sessions += 1
        with self.output.open("ab") as stdout, self.errors.open("ab") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "journaltool", *command],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=os.environ | {"XDG_CACHE_HOME": str(CACHE_HOME)},
            )
        return self

    def wait_until_serving(self) -> None:
        """Wait until a client can connect."""

        def is_serving() -> bool:
            self.check_running()
            with contextlib.suppress(OSError), self.connect():
                return True
            return False

        wait_until(is_serving, "the server does not listen")

    def check_running(self) -> None:
        """Fail with the errors of the process if it has ended."""
        assert self._process is not None
        assert self._process.poll() is None, self.errors.read_text()

    def connect(self) -> socket.socket:
        """Return a new connection to the server."""
        return socket.create_connection((self.host, PORT), timeout=DEADLINE_SECONDS)

    def kill(self) -> None:
        """Kill the process by SIGKILL."""
        assert self._process is not None
        self._process.kill()
        assert self._process.wait(DEADLINE_SECONDS) == -signal.SIGKILL, self.errors.read_text()

    def wait(self) -> int:
        """Return the exit code of the process."""
        assert self._process is not None
        return self._process.wait(DEADLINE_SECONDS)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
