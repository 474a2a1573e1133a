"""FUSE file systems: a process that serves one, and the protocol with that process.

A request is one line of JSON on its standard input, an answer is one on its standard output. The
process unmounts and exits when its input ends, so also when the tests are killed.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from tests.support.deadlines import DEADLINE_SECONDS

_OPTIONS = {
    "foreground": True,
    "nothreads": True,
    "attr_timeout": 0,
    "entry_timeout": 0,
    "negative_timeout": 0,
    "hard_remove": True,
    "use_ino": True,
    "default_permissions": True,
}

Answer = Callable[[dict[str, Any]], object]


def serve(operations: Any, mount_point: str, answer: Answer, lock: threading.Lock) -> None:
    """Mount and serve until the input ends. ``operations`` must call ``say`` in its ``init``."""

    def listen() -> None:
        for line in sys.stdin:
            with lock:
                try:
                    reply = {"answer": answer(json.loads(line))}
                except Exception as error:
                    reply = {"error": repr(error)}
            say(reply)
        detach(Path(mount_point))
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    fuse: Any = importlib.import_module("mfusepy").FUSE
    served = type("Fuse", (fuse,), {"truncate_fuse_3": _truncate})
    served(operations, mount_point, **_OPTIONS)


def _truncate(self: Any, path: bytes | None, size: int, info: Any) -> object:
    """Truncate an open file, even one without a name: mfusepy drops the handle."""
    handle = info.contents.fh if info else None
    return self.operations.truncate(path and path.decode(), size, handle)


def say(reply: dict[str, object]) -> None:
    """Send an answer."""
    sys.stdout.write(json.dumps(reply) + "\n")
    sys.stdout.flush()


def detach(mount_point: Path) -> None:
    """Unmount now; open files are released when they are closed."""
    subprocess.run(["umount", "--lazy", str(mount_point)], check=False, capture_output=True)


class Served:
    """A file system that another process serves at ``mount_point``, which is created for it."""

    def __init__(self, module: str, mount_point: Path, *arguments: str) -> None:
        self.mount_point = mount_point
        mount_point.mkdir(parents=True)
        command = [sys.executable, "-m", module, str(mount_point), *arguments]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, question: str, **arguments: object) -> Any:
        """Send a request to the process; return its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": question} | arguments) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the file system at {self.mount_point} is gone"
        reply = json.loads(line)
        assert "error" not in reply, reply["error"]
        return reply["answer"]

    def close(self) -> None:
        """Unmount, and wait for the process to end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        if self.mount_point.is_mount():
            detach(self.mount_point)
        self.mount_point.rmdir()
