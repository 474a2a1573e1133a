"""Processes that write journals: look-up by journal or process id, and requests for snapshots.

A writer locks its journal as long as it lives, and /proc has the owner of each lock.
"""

import os
import select
import signal
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

SNAPSHOT_SIGNAL = signal.SIGUSR1
"""Signal that requests a snapshot from a process that runs a guest."""

#: Seconds to wait until a process with a new journal handles the signal.
READY_SECONDS = 2.0
_POLL_SECONDS = 0.02

_PROC = Path("/proc")
_DELETED_SUFFIX = " (deleted)"


class WriterProcess:
    """Process that writes a journal; a context manager with a pidfd.

    A signal reaches this process or no process, even if its id is used again later.
    """

    def __init__(self, pid: int) -> None:
        from journal import OptionError

        self.pid = pid
        try:
            self._descriptor = os.pidfd_open(pid)
        except (OSError, OverflowError):
            raise OptionError(f"no process has the id {pid}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    @property
    def is_gone(self) -> bool:
        """Whether the process has ended."""
        return bool(select.select([self._descriptor], [], [], 0)[0])

    def request_snapshot(self) -> None:
        """Send the request for a snapshot.

        Raises ``OptionError`` unless the process handles the signal, which would otherwise end it.
        """
        from journal import OptionError

        self.check_owner()
        deadline = time.monotonic() + READY_SECONDS
        while not self._handles(SNAPSHOT_SIGNAL):
            if self.is_gone:
                raise OptionError(f"process {self.pid} has ended")
            if time.monotonic() > deadline:
                raise OptionError(f"process {self.pid} does not handle requests for snapshots")
            time.sleep(_POLL_SECONDS)
        try:
            signal.pidfd_send_signal(self._descriptor, SNAPSHOT_SIGNAL)
        except ProcessLookupError:
            raise OptionError(f"process {self.pid} has ended") from None

    def check_owner(self) -> None:
        """Raise ``OptionError`` unless the process runs as the current user."""
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
        """Return a value of /proc/PID/status, or an empty string if the process has just ended."""
        with suppress(OSError):
            for line in (_PROC / str(self.pid) / "status").read_text().splitlines():
                found, _, value = line.partition(":")
                if found == name:
                    return value.strip()
        return ""

    def journals(self) -> list[Path]:
        """Return the current paths of the journals that the process writes."""
        from journal import JournalError, Reader
        from journal.log import lock_holder

        found = []
        for descriptor in lock_holder.find_locked_descriptors(self.pid):
            path = _find_current_name(_PROC / str(self.pid) / "fd" / descriptor)
            if path is not None and path not in found:
                with suppress(JournalError, OSError):
                    Reader(path).close()
                    found.append(path)
        # The writer of a directory also locks a segment in it.
        return [path for path in found if path.parent not in found]


def find_by_pid(pid: int) -> tuple[WriterProcess, Path]:
    """Return a process and its only journal, or raise ``OptionError``."""
    from journal import OptionError

    with ExitStack() as stack:
        process = stack.enter_context(WriterProcess(pid))
        process.check_owner()
        journals = process.journals()
        if not journals:
            raise OptionError(f"process {pid} does not write a journal")
        if journals[1:]:
            names = ", ".join(map(str, journals))
            raise OptionError(f"process {pid} writes several journals: choose one of {names}")
        stack.pop_all()
        return process, journals[0]


def find_by_journal(path: Path) -> WriterProcess:
    """Return the process that writes a journal, or raise ``OptionError``."""
    from journal import OptionError
    from journal.log import lock_holder

    if not path.exists():
        raise OptionError(f"{path} does not exist")
    status = path.stat()
    for pid in lock_holder.find_lock_holders(status.st_ino):
        with ExitStack() as stack:
            try:
                process = stack.enter_context(WriterProcess(pid))
                # check_owner() later reports a process of another user.
                is_writer = lock_holder.has_locked(pid, status)
            except (OSError, OptionError):
                continue  # The process has just ended.
            if is_writer:
                stack.pop_all()
                return process
    raise OptionError(f"no process writes {path}, so it cannot take a snapshot")


def _find_current_name(link: Path) -> Path | None:
    """Return the current path of the file that a link of /proc leads to, or None.

    A new journal gets its name by a second hard link, but /proc has the name of the first link. So
    the file is also searched by inode number in its directory.
    """
    try:
        status = link.stat()
        path = Path(os.readlink(link).removesuffix(_DELETED_SUFFIX))  # noqa: PTH115 # The path must not be normalised.
        if path.exists() and os.path.samestat(path.stat(), status):
            return path
        with os.scandir(path.parent) as entries:
            for entry in entries:
                if entry.inode() == status.st_ino and os.path.samestat(entry.stat(), status):
                    return Path(entry.path)
    except OSError:
        pass
    return None
