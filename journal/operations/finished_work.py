"""Results of finished work on journals, which a later run uses while a journal is unchanged.

They are in one file: a first line that names its kind, and then one line for each result. A line is
an authentication code of this user and a JSON object, so results that somebody else wrote are not
believed. Lines are only appended, also by several processes at the same time. A line that a crash
cut short is ignored, and the file can be removed at any time: then all work is done again.
"""

import json
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from typing import NamedTuple

from journal._platform import NO_FOLLOW, OPEN_FLAGS
from journal._version import VERSION
from journal.errors import OptionError
from journal.fs import atomic_file, user_key
from journal.log.segment_files import list_segments

STATE_SIZE_MAX = 64 << 20
"""Largest size in bytes of a file that is read. A larger one is begun anew."""
RESULT_SIZE_MAX = 256 << 10
"""Largest size in bytes of a line. A larger result is not stored."""

_TITLE = b"journal finished work 1\n"
_PURPOSE = "finished work"
_STALE_LINES_MAX = 64
_CLOCK_TICK_NS = 20_000_000
"""Times of files lag the clock by at most this much."""


class JournalIdentity(NamedTuple):
    """Identity of the files of a journal: a hash of their names, inodes, sizes and times.

    ``changed_ns`` is the time of the last change, in nanoseconds since the epoch.
    """

    digest: str
    changed_ns: int

    def was_settled(self, time_ns: int) -> bool:
        """Return whether no change after ``time_ns`` could have left the identity as it is."""
        return self.changed_ns + _CLOCK_TICK_NS < time_ns


def read_identity(path: Path) -> JournalIdentity:
    """Return the identity of a journal. Raises OSError if it cannot be found."""
    files = [path]
    if stat.S_ISDIR(path.stat().st_mode):
        files = [path / name for name in list_segments(path)]
    facts, changed_ns = [], 0
    for file in files:
        found = file.stat()
        facts.append((file.name, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))
        changed_ns = max(changed_ns, found.st_mtime_ns, found.st_ctime_ns)
    return JournalIdentity(sha256(json.dumps(facts).encode()).hexdigest(), changed_ns)


class _Entry(NamedTuple):
    """A stored result: its line, the identity of the journal, and the value as JSON."""

    line: bytes
    identity: str
    value: str


class FinishedWork:
    """Stored results of one task, a function with its options.

    ``task`` has the bytes that tell the task from others. Results of other tasks stay in the file.
    With ``again``, earlier results of the task are not used.
    """

    def __init__(self, path: Path, task: bytes, *, again: bool = False) -> None:
        self._path = path
        self._key = user_key.load_key()
        self._task = self._key.compute_mac("task", VERSION.encode(), task).hex()
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._lines = 0
        self._uses_earlier = not again
        self._load()

    def find(self, path: Path) -> str | None:
        """Return the value for a journal as JSON, or None unless its work is finished."""
        name = _make_name(path)
        entry = self._entries.get((self._task, name))
        if entry is None or not self._uses_earlier:
            return None
        with suppress(OSError):
            if read_identity(path).digest == entry.identity:
                return entry.value
        return None

    def add(self, path: Path, identity: str, value: str) -> None:
        """Store the value for a journal. A full disk only costs the time of a repetition."""
        name = _make_name(path)
        text = json.dumps([self._task, name, identity, int(time.time()), value]).encode()
        line = self._authenticate(text) + b" " + text + b"\n"
        if len(line) <= RESULT_SIZE_MAX:
            self._entries[self._task, name] = _Entry(line, identity, value)
            self._lines += 1
            with suppress(OSError), _opened(self._path) as descriptor:
                os.write(descriptor, line)

    def tidy(self) -> None:
        """Write the file anew if most lines are of no more use."""
        if self._lines - len(self._entries) > max(_STALE_LINES_MAX, len(self._entries)):
            kept = [
                entry.line for (_, name), entry in self._entries.items() if os.path.lexists(name)
            ]
            with suppress(OSError):
                atomic_file.replace(self._path, _TITLE + b"".join(kept))

    def _load(self) -> None:
        """Read the file, and create it if it is missing."""
        with _opened(self._path) as descriptor:
            status = os.fstat(descriptor)
            is_file, data = stat.S_ISREG(status.st_mode), b""
            if is_file:
                data = os.pread(descriptor, min(status.st_size, STATE_SIZE_MAX + 1), 0)
            if not is_file or not (data or _TITLE).startswith(_TITLE):
                raise OptionError(f"{self._path} is no file of finished work: name another file")
            if len(data) > STATE_SIZE_MAX:
                os.ftruncate(descriptor, 0)
                data = b""
            for line in data.splitlines(keepends=True)[1:]:
                self._read_line(line)
            if not data:
                os.write(descriptor, _TITLE)
            elif not data.endswith(b"\n"):
                os.write(descriptor, b"\n")

    def _read_line(self, line: bytes) -> None:
        self._lines += 1
        code, _, text = line.rstrip(b"\n").partition(b" ")
        if compare_digest(code, self._authenticate(text)):
            task, name, identity, _, value = json.loads(text)
            self._entries[task, name] = _Entry(line, identity, value)

    def _authenticate(self, text: bytes) -> bytes:
        code = self._key.new_mac(_PURPOSE)
        code.update(text)
        return code.hexdigest().encode()


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Open a file for reading and appending, and create it if it is missing."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | OPEN_FLAGS | NO_FOLLOW
    descriptor = os.open(path, flags, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _make_name(path: Path) -> str:
    """Return the absolute path without resolving links, as a text that JSON can have."""
    return os.path.abspath(path)  # noqa: PTH100 (Path.absolute keeps "..")
