"""Processes that write journals: which writes this one, which this one writes, and asking it.

A writer holds a lock of its journal as long as it lives, and the system tells whose it is.
"""

import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

SNAPSHOT_SIGNAL = signal.SIGUSR1
"""What asks a process that runs a guest for a snapshot."""

#: A process takes a moment from when its journal has its name until it can be asked.
READY_SECONDS = 2.0
_POLL_SECONDS = 0.02

_PROC = Path("/proc")
_DELETED_SUFFIX = " (deleted)"
_LOCK_KIND = ("FLOCK", "ADVISORY", "WRITE")


class WriterProcess:
    """A process that writes a journal; a context manager, as it holds on to the process.

    What is sent to it reaches this process or none: its number may mean another one later.
    """

    def __init__(self, pid: int) -> None:
        from journal import OptionError

        self.pid = pid
        try:
            self._descriptor = os.pidfd_open(pid)
        except (OSError, OverflowError):
            raise OptionError(f"there is no process {pid}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    @property
    def is_gone(self) -> bool:
        """Whether it has ended."""
        return bool(select.select([self._descriptor], [], [], 0)[0])

    def request_snapshot(self) -> None:
        """Ask it for a snapshot. Raises ``OptionError`` where that could do harm.

        The signal ends a process that does not expect it.
        """
        from journal import OptionError

        self.check_owner()
        deadline = time.monotonic() + READY_SECONDS
        while not self._handles(SNAPSHOT_SIGNAL):
            if self.is_gone:
                raise OptionError(f"process {self.pid} has ended")
            if time.monotonic() > deadline:
                raise OptionError(f"process {self.pid} takes no snapshots when it is asked for one")
            time.sleep(_POLL_SECONDS)
        try:
            signal.pidfd_send_signal(self._descriptor, SNAPSHOT_SIGNAL)
        except ProcessLookupError:
            raise OptionError(f"process {self.pid} has ended") from None

    def check_owner(self) -> None:
        """Raise ``OptionError`` unless it runs, for the user who asks."""
        from journal import OptionError

        users = set(self._status("Uid").split())
        if self.is_gone:
            raise OptionError(f"process {self.pid} has ended")
        if users != {str(os.geteuid())}:
            raise OptionError(f"process {self.pid} belongs to another user")

    def _handles(self, number: int) -> bool:
        caught = self._status("SigCgt")
        return bool(caught) and bool(int(caught, 16) >> (number - 1) & 1)

    def _status(self, name: str) -> str:
        """A line of what the system tells of it; empty if it has just ended."""
        with suppress(OSError):
            for line in (_PROC / str(self.pid) / "status").read_text().splitlines():
                found, _, value = line.partition(":")
                if found == name:
                    return value.strip()
        return ""

    def journals(self) -> list[Path]:
        """The journals that it writes, by the names that they have now."""
        from journal import JournalError, Reader

        found = []
        for descriptor in _find_locked_descriptors(self.pid):
            path = _find_current_name(_PROC / str(self.pid) / "fd" / descriptor)
            if path is not None and path not in found:
                with suppress(JournalError, OSError):
                    Reader(path).close()
                    found.append(path)
        return found


def find_by_pid(pid: int) -> tuple[WriterProcess, Path]:
    """The process, and the one journal that it writes. Raises ``OptionError``."""
    from journal import OptionError

    with ExitStack() as stack:
        process = stack.enter_context(WriterProcess(pid))
        process.check_owner()
        journals = process.journals()
        if not journals:
            raise OptionError(f"process {pid} writes no journal")
        if journals[1:]:
            names = ", ".join(map(str, journals))
            raise OptionError(f"process {pid} writes several journals, name one: {names}")
        stack.pop_all()
        return process, journals[0]


def find_by_journal(path: Path) -> WriterProcess:
    """The process that writes a journal. Raises ``OptionError``."""
    from journal import OptionError

    if not path.exists():
        raise OptionError(f"{path} does not exist")
    there = path.stat()
    for pid in _find_lock_holders(there.st_ino):
        with ExitStack() as stack:
            try:
                process = stack.enter_context(WriterProcess(pid))
                files = [
                    _PROC / str(pid) / "fd" / descriptor
                    for descriptor in _find_locked_descriptors(pid)
                ]
                is_it = any(os.path.samestat(file.stat(), there) for file in files)
            except PermissionError:
                is_it = True  # of another user, who is told by that
            except (OSError, OptionError):
                continue  # it has just ended
            if is_it:
                stack.pop_all()
                return process
    raise OptionError(f"no process writes {path}, so there is none to be asked")


def _find_lock_holders(inode: int) -> Iterator[int]:
    """The processes that hold a lock of a file with this number, on any file system."""
    for line in (_PROC / "locks").read_text().splitlines():
        _, *kind, pid, place, _, _ = line.split()
        if tuple(kind) == _LOCK_KIND and place.rpartition(":")[2] == str(inode) and int(pid) > 0:
            yield int(pid)


def _find_locked_descriptors(pid: int) -> Iterator[str]:
    """The descriptors of a process by which it holds locks."""
    folder = _PROC / str(pid) / "fdinfo"
    for descriptor in sorted(os.listdir(folder), key=int):  # noqa: PTH208 # names alone
        with suppress(FileNotFoundError):  # closed meanwhile
            for line in (folder / descriptor).read_text().splitlines():
                name, _, value = line.partition(":")
                if name == "lock" and tuple(value.split()[1:4]) == _LOCK_KIND:
                    yield descriptor


def _find_current_name(link: Path) -> Path | None:
    """The file that a link of the system leads to, by a name that it has in its directory.

    > Why look for it? A new journal gets its name by a second link, and the system knows the first.
    """
    try:
        there = link.stat()
        path = Path(os.readlink(link).removesuffix(_DELETED_SUFFIX))  # noqa: PTH115 # no normalising
        if path.exists() and os.path.samestat(path.stat(), there):
            return path
        with os.scandir(path.parent) as entries:
            for entry in entries:
                if entry.inode() == there.st_ino and os.path.samestat(entry.stat(), there):
                    return Path(entry.path)
    except OSError:
        pass
    return None
