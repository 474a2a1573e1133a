"""Descriptors and files with which a new process starts: those of its parent, changed."""

from dataclasses import replace

from journal.engine.wasi.descriptors import (
    DESCRIPTORS_MAX,
    Descriptor,
    Descriptors,
    InputStream,
    OutputStream,
)
from journal.engine.wasi.objects.shared_pipe import SharedEnd
from journal.events.processes import StartDescriptor, StartFile, StartKind
from journal.wasi_abi import Errno, WasiError


class StartTable:
    """The descriptors that a new process gets: those of its parent, changed by file actions.

    It gets the standard streams and the ends of pipes. ``directory`` is its working directory.
    """

    def __init__(self, descriptors: Descriptors, directory: str = "/") -> None:
        self.directory = directory
        self._entries: dict[int, Descriptor | StartFile] = dict(descriptors.used)
        self._closed_on_exec = {fd for fd, flags in descriptors.fd_flags.items() if flags & 1}

    def close(self, fd: int) -> None:
        """Close a descriptor."""
        self._entries.pop(fd, None)

    def duplicate(self, source: int, fd: int) -> None:
        """Let ``fd`` refer to what ``source`` refers to. Raises ``WasiError`` with ``BADF``."""
        _check_number(fd)
        entry = self._entries.get(source)
        if entry is None:
            raise WasiError(Errno.BADF)
        if not _is_inherited(entry):
            raise WasiError(Errno.NOTSUP)
        self._entries[fd] = entry
        self._closed_on_exec.discard(fd)

    def open(self, file: StartFile) -> None:
        """Open a file in the new process."""
        _check_number(file.fd)
        self._entries[file.fd] = file
        self._closed_on_exec.discard(file.fd)

    def put(self, fd: int, entry: Descriptor) -> None:
        """Let ``fd`` refer to an object of the parent."""
        self._entries[fd] = entry
        self._closed_on_exec.discard(fd)

    def finish(self) -> tuple[tuple[StartDescriptor, ...], tuple[StartFile, ...]]:
        """Return the descriptors and the files with which the process starts."""
        first: dict[int, int] = {}
        descriptors: list[StartDescriptor] = []
        files: list[StartFile] = []
        for fd, entry in sorted(self._entries.items(), key=lambda item: item[0]):
            if fd in self._closed_on_exec or not _is_inherited(entry):
                continue
            source = first.setdefault(id(entry), fd)
            if source != fd:
                descriptors.append(StartDescriptor(fd, StartKind.DUPLICATE, source, 0, 0, 0))
            elif isinstance(entry, StartFile):
                files.append(replace(entry, fd=fd))
            else:
                descriptors.append(_describe_end(fd, entry))
        return tuple(descriptors), tuple(files)


def _check_number(fd: int) -> None:
    if fd >= DESCRIPTORS_MAX:
        raise WasiError(Errno.BADF)


def _is_inherited(entry: Descriptor | StartFile) -> bool:
    kinds = StartFile | SharedEnd | InputStream | OutputStream
    return isinstance(entry, kinds)


def _describe_end(fd: int, entry: Descriptor) -> StartDescriptor:
    if isinstance(entry, InputStream):
        return StartDescriptor(fd, StartKind.READ_END, 0, 0, 0, 0)
    if isinstance(entry, OutputStream):
        return StartDescriptor(fd, StartKind.WRITE_END, 0, 0, entry.number, 0)
    assert isinstance(entry, SharedEnd), "nothing else is inherited"
    kind = StartKind.WRITE_END if entry.is_writer else StartKind.READ_END
    return StartDescriptor(fd, kind, 0, *entry.id, entry.flags)
