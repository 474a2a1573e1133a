"""Rebuilding of a guest's files and descriptors by repeating effects, without running the guest.

Effects are repeated by the functions that perform a guest's calls. In-memory files, open files,
descriptors and the terminal are therefore equal to those of an execution, including inodes and
times. Positions in files and streams are stored separately: see ``positions``.
"""

import struct
from collections.abc import Callable, Iterator
from typing import Any

from journal.engine.snapshot import interface_effects, rebuild_sockets
from journal.engine.snapshot.free_descriptors import check_free, reserve_descriptor
from journal.engine.tape import Batch, TapeRow
from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.descriptors import (
    CLOSE_ON_EXEC,
    DESCRIPTORS_MAX,
    GuestDirectory,
    OpenFile,
)
from journal.engine.wasi.functions.channels import (
    check_event,
    check_pair,
    create_event,
    create_pair,
    create_pipe,
)
from journal.engine.wasi.functions.clocks import TIME_MAX, set_clock
from journal.engine.wasi.functions.descriptors import (
    fd_close,
    fd_fdstat_set_flags,
    fd_filestat_set_size,
    fd_filestat_set_times,
    renumber,
)
from journal.engine.wasi.functions.directories import change_directory, is_canonical
from journal.engine.wasi.functions.duplicates import (
    duplicate,
    duplicate_with_flags,
    fd_fdflags_set,
)
from journal.engine.wasi.functions.epolls import control, create_epoll
from journal.engine.wasi.functions.paths import check_writable, open_path
from journal.engine.wasi.terminal import SIDE_MAX, TerminalSettings
from journal.errors import FormatError, NotResumable
from journal.events import BY_TAG, codec, descriptors, paths, sockets
from journal.events.core import InitModule, ProcessExit, SetClockTime, TtySet
from journal.events.definition import Event, Role
from journal.events.inputs import HostCall, HostResult, TtyRead
from journal.events.memory import UpdateMemoryRegion
from journal.events.process import ProcessTrap
from journal.events.processes import ChildStarted, ProcessReplaced, ProcessSpawned
from journal.events.snapshots import ClearEthereal
from journal.events.streams import StreamWrite
from journal.events.tag_sets import KNOWN
from journal.events.threads import CloseThread
from journal.vfs.open_request import OpenRequest
from journal.vfs.times import make_time_update
from journal.wasi_abi import CLOCK_REALTIME, Errno, WasiError

#: Errors of decoding invalid events and of creating the files that they request. WasiError is not
#: one of them, because a guest's calls may fail.
_MALFORMED = (FormatError, struct.error, ValueError, LookupError, OverflowError, MemoryError)

_RESULT = HostResult.tag
_STARTED = ChildStarted.tag
_TERMINAL_READ = TtyRead.tag
_PROBE = HostCall.PROBE
_PROBE_ALONE = "no effect follows this probe"
_NO_RESULT = "its host result is missing"

#: Above all sequence numbers.
SEQ_MAX = 1 << 64

#: Calls without an effect; every other host result follows an effect.
_QUERIES = frozenset(
    (
        HostCall.READ,
        HostCall.STAT,
        HostCall.LIST,
        HostCall.SIZE,
        HostCall.SYNC,
        HostCall.READLINK,
        HostCall.WAIT,
        HostCall.SIGNAL,
        *rebuild_sockets.QUERIES,
    )
)


def ignore_query(context: CallContext, payload: bytes) -> None:
    """Ignore a result that changes nothing."""


def rebuild_state(
    context: CallContext,
    batches: Iterator[Batch],
    upto: int,
    on_query: Callable[[CallContext, bytes], None] = ignore_query,
) -> None:
    """Bring ``context`` to the state after event ``upto``, which lies between two guest calls.

    ``context`` belongs to a guest that has not started, or is at the start of ``batches``. Only
    events with ``REBUILD_TAGS`` are needed. The host is not changed. ``on_query`` receives the
    payload of each host result that changes nothing. Raises ``NotResumable`` for an
    event that is inconsistent with the events before it; ``context`` is unusable then.
    """
    source = _RecordedResults(batches, upto)
    with context.tape.substitute(source.record_effect, source.request_input):
        for row in source.rows:
            if row[1] == _STARTED:
                context.processes.repeat_start(row[2])
                continue
            effect = _EFFECT_HANDLERS.get(row[1])
            if row[1] == _TERMINAL_READ:
                _note_terminal(context, row)
                continue
            if effect is None:
                if source.skip_result(row):
                    _apply_result(context, row)
                    on_query(context, row[2])
                continue
            kind, repeat = effect
            source.effect, source.is_repeated, context.tape.last_effect_seq = row, False, row[0]
            try:
                repeat(context, *codec.make_unpacker(kind)(row[2]))
            except WasiError as error:
                source.accept_error(error)
            except _MALFORMED as error:
                raise _inconsistent_error(row, str(error)) from error
            if not source.is_repeated:
                raise _inconsistent_error(row, "repeating this event recorded no effect")
    source.check_end()


def _note_terminal(context: CallContext, row: TapeRow) -> None:
    try:
        context.terminal.note_reading(row[2])
    except _MALFORMED as error:
        raise _inconsistent_error(row, str(error)) from error


def _apply_result(context: CallContext, row: TapeRow) -> None:
    try:
        rebuild_sockets.apply_result(context, row[2])
    except WasiError as error:
        raise _inconsistent_error(row, f"it failed with {Errno(error.errno).name}") from error
    except _MALFORMED as error:
        raise _inconsistent_error(row, str(error)) from error


class _ResultMissing(NotResumable):
    """The journal ends before the host result of an effect or the effect of a probe."""

    def __init__(self, reason: str, row: TapeRow) -> None:
        super().__init__(reason)
        self.row = row


def rebuild_last_state(
    context: CallContext,
    batches: Iterator[Batch],
    on_query: Callable[[CallContext, bytes], None] = ignore_query,
) -> TapeRow | None:
    """Bring ``context`` to the state at the end of the journal, as ``rebuild_state`` does.

    Returns the last effect if its host result is not recorded, so that the host may have performed
    it or not; else None.
    """
    try:
        rebuild_state(context, batches, SEQ_MAX, on_query)
    except _ResultMissing as error:
        return error.row if error.row[1] != _RESULT else None
    return None


class _RecordedResults:
    """Source of recorded effects and host results for the engine's objects.

    ``rows`` yields the relevant rows. ``effect`` is the row that is being repeated: it is recorded
    once, and the host result follows. A preceding probe is stored until it is requested.
    """

    def __init__(self, batches: Iterator[Batch], upto: int) -> None:
        self.rows = _iter_relevant(batches, upto)
        self.effect: TapeRow = (-1, 0, b"", 0)
        self.is_repeated = False
        self._probe: TapeRow | None = None

    def skip_result(self, row: TapeRow) -> bool:
        """Skip a result that changes nothing, or store a probe of the next effect.

        Returns whether it is not a probe.
        """
        if self._probe is not None:
            raise _inconsistent_error(self._probe, _PROBE_ALONE)
        call = row[2][0] if row[2] else -1
        if call == _PROBE:
            self._probe = row
        elif call not in _QUERIES and not _is_refused_output(row[2]):
            raise _inconsistent_error(row, "it is a host result without an effect")
        return call != _PROBE

    def accept_error(self, error: WasiError) -> None:
        """Accept an error that was the host's result for a repeated effect; reject other errors."""
        if not self.is_repeated:
            raise _inconsistent_error(
                self.effect, f"repeating this event failed with {Errno(error.errno).name}"
            ) from error

    def check_end(self) -> None:
        """Raise ``NotResumable`` if the last probe has no effect."""
        if self._probe is not None:
            reason = str(_inconsistent_error(self._probe, _PROBE_ALONE))
            raise _ResultMissing(reason, self._probe)

    def record_effect(self, tag: int, payload: bytes) -> int:
        """Check that the repeated effect equals the recorded row, and return the row's time."""
        row = self.effect
        if row[2] != payload or row[1] != tag or self._probe is not None:
            raise _inconsistent_error(row, "repeating this event produced a different event")
        self.is_repeated = True
        return row[3]

    def request_input(self, tag: int, prefix: bytes, live: Callable[[], bytes]) -> bytes:
        """Return the host result of the effect, or of the probe before the effect."""
        row, self._probe = self._probe, None
        if self.is_repeated:
            row = next(self.rows, None)
            if row is None:
                reason = str(_inconsistent_error(self.effect, _NO_RESULT))
                raise _ResultMissing(reason, self.effect)
        if row is None or row[1] != tag or not row[2].startswith(prefix):
            raise _inconsistent_error(self.effect, _NO_RESULT)
        return row[2]


def _is_refused_output(payload: bytes) -> bool:
    """Return whether a host result is the error of a write to a standard stream, or of a send."""
    try:
        call, _, errno, _ = codec.make_unpacker(HostResult)(payload)
    except FormatError:
        return False
    return call in (HostCall.WRITE, HostCall.SEND) and errno != 0


def _iter_relevant(batches: Iterator[Batch], upto: int) -> Iterator[TapeRow]:
    """Yield the relevant rows up to event ``upto``."""
    relevant = REBUILD_TAGS
    for batch in batches:
        unknown = set(batch.tags) - KNOWN
        if unknown:
            raise NotResumable(
                f"the journal has events of the unknown kind {min(unknown)}: resume it with a "
                "newer version of journal"
            )
        for row in zip(*batch, strict=True):
            if row[0] > upto:
                return
            if row[1] in relevant:
                yield row


def _inconsistent_error(row: TapeRow, reason: str) -> NotResumable:
    kind = BY_TAG[row[1]].__name__
    return NotResumable(
        f"event {row[0]}, a {kind}, is inconsistent with the events before it: {reason}"
    )


# -- effects: the calls without reading their arguments from memory ------------------------------


def _write(context: CallContext, fd: int, offset: int, is_64bit: bool, data: bytes) -> None:
    descriptor = context.descriptors.used.get(fd)
    if type(descriptor) is not OpenFile or not descriptor.is_writable:
        raise WasiError(Errno.BADF)
    descriptor.file.write(fd, offset, data)


def _open(context: CallContext, *values: Any) -> None:
    request = OpenRequest(*values)
    reserve_descriptor(context, request.fd)
    open_path(context, context.descriptors.get_directory(request.dirfd).directory, request)


def _open_with_flags(context: CallContext, *values: Any) -> None:
    *request, fd_flags, path = values
    if not fd_flags or fd_flags & ~CLOSE_ON_EXEC:
        raise ValueError(f"a descriptor cannot be opened with the flags {fd_flags}")
    _open(context, *request, path, fd_flags)


def _create_pipe(context: CallContext, read_fd: int, write_fd: int) -> None:
    check_free(context, read_fd, write_fd)
    create_pipe(context, read_fd, write_fd)


def _create_event(context: CallContext, value: int, flags: int, fd: int) -> None:
    check_free(context, fd)
    check_event(value, flags)
    create_event(context, value, flags, fd)


def _create_epoll(context: CallContext, fd: int) -> None:
    check_free(context, fd)
    create_epoll(context, fd)


def _control_epoll(
    context: CallContext, epfd: int, operation: int, fd: int, event: descriptors.EpollEvent | None
) -> None:
    if (event is None) != (operation == descriptors.EpollOperation.DELETE):
        raise ValueError("only a deletion has no event")
    control(context, epfd, operation, fd, event)


def _create_pair(context: CallContext, fd: int, peer_fd: int, *of_type: int) -> None:
    check_free(context, fd, peer_fd)
    if of_type:
        check_pair(*of_type)
    create_pair(context, fd, peer_fd, *of_type)


def _duplicate(context: CallContext, fd: int, copied_fd: int) -> None:
    check_free(context, copied_fd)
    duplicate(context, fd, copied_fd)


def _duplicate_with_flags(context: CallContext, fd: int, copied_fd: int, cloexec: bool) -> None:
    check_free(context, copied_fd)
    duplicate_with_flags(context, fd, copied_fd, cloexec)


def _renumber(context: CallContext, old: int, new: int) -> None:
    if new >= DESCRIPTORS_MAX:
        raise WasiError(Errno.BADF)
    renumber(context, old, new)


def _writable_directory(context: CallContext, fd: int) -> GuestDirectory:
    directory = context.descriptors.get_directory(fd).directory
    check_writable(directory)
    return directory


def _create_directory(context: CallContext, fd: int, path: str) -> None:
    _writable_directory(context, fd).create_directory(fd, path)


def _remove_directory(context: CallContext, fd: int, path: str) -> None:
    _writable_directory(context, fd).remove_directory(fd, path)


def _unlink(context: CallContext, fd: int, path: str) -> None:
    _writable_directory(context, fd).unlink(fd, path)


def _set_path_times(
    context: CallContext, fd: int, lookup: int, atime: int, mtime: int, flags: int, path: str
) -> None:
    times = make_time_update(atime, mtime, flags)
    _writable_directory(context, fd).set_times_at(fd, path, lookup, times)


def _link(
    context: CallContext, old_fd: int, lookup: int, new_fd: int, old_path: str, new_path: str
) -> None:
    old, new = _writable_directory(context, old_fd), _writable_directory(context, new_fd)
    old.link(old_fd, lookup, old_path, new, new_fd, new_path)


def _symlink(context: CallContext, fd: int, target: str, path: str) -> None:
    _writable_directory(context, fd).symlink(fd, target, path)


def _rename(context: CallContext, old_fd: int, new_fd: int, old_path: str, new_path: str) -> None:
    old, new = _writable_directory(context, old_fd), _writable_directory(context, new_fd)
    old.rename(old_fd, old_path, new, new_fd, new_path)


def _change_directory(context: CallContext, path: str) -> None:
    if not is_canonical(path):
        raise ValueError("the working directory is not an absolute path without dots")
    change_directory(context, path)


def _set_clock(context: CallContext, clock: int, timestamp: int) -> None:
    if clock != CLOCK_REALTIME or timestamp > TIME_MAX:
        raise ValueError(f"clock {clock} cannot be set to {timestamp}")
    set_clock(context, clock, timestamp)


def _set_terminal(context: CallContext, *values: int) -> None:
    if max(values[:4]) > SIDE_MAX:
        raise WasiError(Errno.INVAL)
    context.terminal.set(TerminalSettings._make(values))


def _reject(context: CallContext, *values: object) -> None:
    raise ValueError("this engine does not record such an event")


EffectHandler = Callable[..., None]

#: Functions that repeat an effect, with the context and the event's values as arguments.
_HANDLERS: dict[type[Event], EffectHandler] = {
    descriptors.OpenFileDescriptor: _open,
    descriptors.OpenFileDescriptorWithFlags: _open_with_flags,
    descriptors.CloseFileDescriptor: fd_close,
    descriptors.RenumberFileDescriptor: _renumber,
    descriptors.FileDescriptorWrite: _write,
    descriptors.FileDescriptorSetSize: fd_filestat_set_size,
    descriptors.FileDescriptorSetTimes: fd_filestat_set_times,
    descriptors.FileDescriptorSetFlags: fd_fdstat_set_flags,
    descriptors.FileDescriptorSetFdFlags: fd_fdflags_set,
    descriptors.DuplicateFileDescriptor: _duplicate,
    descriptors.DuplicateFileDescriptorWithFlags: _duplicate_with_flags,
    descriptors.CreatePipe: _create_pipe,
    descriptors.CreateEvent: _create_event,
    descriptors.EpollCreate: _create_epoll,
    descriptors.EpollCtl: _control_epoll,
    paths.CreateDirectory: _create_directory,
    paths.RemoveDirectory: _remove_directory,
    paths.UnlinkFile: _unlink,
    paths.PathSetTimes: _set_path_times,
    paths.PathRename: _rename,
    paths.CreateHardLink: _link,
    paths.CreateSymbolicLink: _symlink,
    sockets.SocketPair: _create_pair,
    sockets.SocketPairOfType: _create_pair,
    **rebuild_sockets.HANDLERS,
    paths.ChangeDirectory: _change_directory,
    SetClockTime: _set_clock,
    TtySet: _set_terminal,
    **interface_effects.HANDLERS,
}

#: Effects on positions and streams, which are restored separately, ends, and effects that only
#: other runtimes record.
_IGNORED = (
    *(descriptors.FileDescriptorSeek, descriptors.FileDescriptorAdvise, StreamWrite),
    *(ProcessExit, ProcessTrap, ProcessSpawned, ProcessReplaced),
    *(InitModule, UpdateMemoryRegion, CloseThread, ClearEthereal),
)

#: Effects that no call of this engine records.
_UNSUPPORTED = [
    cls
    for cls in BY_TAG.values()
    if cls.role is Role.EFFECT and cls not in _HANDLERS and cls not in _IGNORED
]

# Unpackers are made at first use, because making all of them delays every start.
_EFFECT_HANDLERS = {
    cls.tag: (cls, repeat)
    for cls, repeat in (_HANDLERS | dict.fromkeys(_UNSUPPORTED, _reject)).items()
}

#: Tags that ``rebuild_state`` needs.
REBUILD_TAGS = frozenset((*_EFFECT_HANDLERS, _RESULT, _TERMINAL_READ, _STARTED))
