"""Workers of a pool, as the pool sees them: processes, or threads of this process."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Any

from journal._platform import find_interpreter
from journal.engine.pool.channel import Channel
from journal.engine.pool.messages import Kind, encode_values, frame
from journal.engine.pool.slots import Slot
from journal.engine.pool.worker_process import WorkerServer
from journal.errors import EngineError
from journal.fs.open_resources import OwnThread

_CODE = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[2]);"
    "from journal.engine.pool.worker_process import main; main(json.loads(sys.argv[1]))"
)
_EXIT_TIMEOUT_SECONDS = 10.0
_LAST_LINE_SIZE_MAX = 400
_ERROR_OUTPUT_READ = 1 << 12


class Worker(ABC):
    """Server of the slots of one engine, and the channels that lead to it.

    ``session_count`` and ``is_retiring`` belong to the queue of slots. ``is_ready`` is set when the
    worker has made its slots.
    """

    kill_reason = ""
    """Why the pool killed the worker; empty if it did not."""

    def __init__(self, number: int, ends: list[socket.socket]) -> None:
        control, *slots = ends
        self.number = number
        self.control = Channel(control)
        self.slots = [Slot(self, index, Channel(end)) for index, end in enumerate(slots)]
        self.session_count = 0
        self.is_retiring = False
        self.is_ready = False

    def configure(self, values: dict[str, Any]) -> None:
        """Send the options of the pool."""
        self.control.send(frame(Kind.CONFIGURE, 0, encode_values(values)))

    def stop_session(self, slot: Slot) -> None:
        """Request the guest of a slot to stop, from any thread. The answer is that of its call."""
        body = slot.index.to_bytes(4, "little")
        self.control.send_now(frame(Kind.STOP_SLOT, slot.session, body))

    def request_end(self) -> None:
        """Request the worker to end."""
        self.control.send_now(frame(Kind.CLOSE, 0))

    def close(self, used_slots: set[Slot]) -> None:
        """Close the channels, but only end those of ``used_slots``, on which threads may wait."""
        for slot in self.slots:
            slot.channel.shut_down()
            if slot not in used_slots:
                slot.channel.close()
        self.control.close()

    def abandon(self) -> None:
        """Close all descriptors in a forked child. The parent's channels stay open."""
        for slot in self.slots:
            slot.channel.close()
        self.control.close()

    @property
    @abstractmethod
    def process_id(self) -> int:
        """Return the number of the worker's process."""

    @abstractmethod
    def kill(self, reason: str = "") -> None:
        """End the worker at once. ``reason`` completes the sentence "the worker …"."""

    @abstractmethod
    def wait(self, timeout_seconds: float = _EXIT_TIMEOUT_SECONDS) -> bool:
        """Wait for the end of the worker, and return whether it has ended."""

    @abstractmethod
    def describe_end(self) -> str:
        """Return how the worker ended, to complete the sentence "the worker …"."""


class ProcessWorker(Worker):
    """Worker in a process of its own.

    The process is spawned, never forked: a forked child of a process that has compiled modules
    hangs. It ends when its control channel is closed, so it does not survive the pool.
    """

    def __init__(self, number: int, slot_count: int) -> None:
        interpreter = find_interpreter()
        if interpreter is None:
            raise EngineError(
                "a frozen program has no Python interpreter for the workers: pass workers=0"
            )
        ours, theirs = _make_pairs(slot_count + 1)
        # A file in memory: nobody has to read it, and a worker that dies writes little.
        self._error_output = os.memfd_create("journal worker")
        self._end = ""
        self._end_lock = threading.Lock()
        numbers = [end.fileno() for end in theirs]
        command = [interpreter, "-I", "-c", _CODE, json.dumps(numbers), json.dumps(sys.path)]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._error_output,
                pass_fds=numbers,
                start_new_session=True,  # Ctrl-C in a terminal is for the pool.
            )
        except OSError as error:
            os.close(self._error_output)
            for end in ours:
                end.close()
            raise EngineError(f"no worker can be started: {error.strerror}") from error
        finally:
            for end in theirs:
                end.close()
        super().__init__(number, ours)

    @property
    def process_id(self) -> int:
        """Return the number of the worker's process."""
        return self._process.pid

    def kill(self, reason: str = "") -> None:
        """End the worker at once."""
        self.kill_reason = self.kill_reason or reason
        self._process.kill()

    def wait(self, timeout_seconds: float = _EXIT_TIMEOUT_SECONDS) -> bool:
        """Wait for the end of the worker, and return whether it has ended."""
        try:
            self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def describe_end(self) -> str:
        """Return how the worker ended."""
        if self.kill_reason:
            return self.kill_reason
        with self._end_lock:
            self._end = self._end or self._find_end()
            return self._end

    def _find_end(self) -> str:
        if not self.wait():
            return "closed its channel and does not end"
        code = self._process.returncode
        if code < 0:
            with suppress(ValueError):
                return f"was killed by {signal.Signals(-code).name}"
        last_line = self._read_last_line()
        return f"exited with code {code}: {last_line}" if last_line else f"exited with code {code}"

    def _read_last_line(self) -> str:
        size = os.fstat(self._error_output).st_size
        start = max(0, size - _ERROR_OUTPUT_READ)
        output = os.pread(self._error_output, _ERROR_OUTPUT_READ, start)
        lines = output.decode(errors="replace").strip().splitlines()
        return lines[-1][:_LAST_LINE_SIZE_MAX] if lines else ""

    def close(self, used_slots: set[Slot]) -> None:
        """Close the channels, but only end those of ``used_slots``."""
        self.describe_end()  # Sessions ask for it later.
        super().close(used_slots)
        os.close(self._error_output)

    def abandon(self) -> None:
        """Close all descriptors in a forked child, which cannot wait for its parent's process."""
        super().abandon()
        os.close(self._error_output)
        self._process.returncode = 0


class ThreadWorker(Worker):
    """Worker in threads of this process. It cannot be killed, only asked to end."""

    def __init__(self, number: int, slot_count: int) -> None:
        ours, theirs = _make_pairs(slot_count + 1)
        super().__init__(number, ours)
        self._server = WorkerServer(theirs)
        self._error: Exception | None = None
        self._thread = OwnThread(target=self._serve, name="journal-pool-worker", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        try:
            self._server.serve()
        except Exception as error:
            self._error = error

    @property
    def process_id(self) -> int:
        """Return the number of this process."""
        return os.getpid()

    def kill(self, reason: str = "") -> None:
        """End the channels. The threads end when their guests return."""
        self.kill_reason = self.kill_reason or reason
        for each in (self.control, *(slot.channel for slot in self.slots)):
            each.shut_down()

    def wait(self, timeout_seconds: float = _EXIT_TIMEOUT_SECONDS) -> bool:
        """Wait for the end of the threads, and return whether they have ended."""
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def describe_end(self) -> str:
        """Return how the worker ended."""
        if self._error is not None:
            return f"failed: {self._error}"
        return self.kill_reason or "ended"


def _make_pairs(count: int) -> tuple[list[socket.socket], list[socket.socket]]:
    """Return both ends of ``count`` socket pairs."""
    ours: list[socket.socket] = []
    theirs: list[socket.socket] = []
    try:
        for _ in range(count):
            end, other = socket.socketpair()
            ours.append(end)
            theirs.append(other)
    except OSError as error:
        for each in (*ours, *theirs):
            each.close()
        raise EngineError(
            f"the slots of a worker need {2 * count} descriptors: {error.strerror}"
        ) from error
    return ours, theirs
