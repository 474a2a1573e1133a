"""A guest made of its journal: its effects are done again, in order, without running it.

The same functions do them that did them for the guest, so that files in memory, what is open, the
descriptors and the terminal come out as an execution leaves them, to the inode and the nanosecond.
Only where the guest stands in its files and streams is not told by effects: see ``standing``.
"""

import struct
from collections.abc import Callable, Iterator

from journal.engine.tape import Batch, TapeRow
from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.descriptors import DESCRIPTORS_MAX, OpenFile, OutputStream
from journal.engine.wasi.filesystem.interfaces import (
    GuestDirectory,
    OpenRequest,
    make_requested_times,
)
from journal.engine.wasi.filesystem.path_resolution import check_path
from journal.engine.wasi.functions.descriptors import (
    fd_close,
    fd_fdstat_set_flags,
    fd_filestat_set_size,
    fd_filestat_set_times,
    fd_renumber,
)
from journal.engine.wasi.functions.paths import check_writable, open_path
from journal.engine.wasi.stdio.outbox import STDOUT
from journal.engine.wasi.terminal import SIDE_MAX, TerminalSettings
from journal.engine.wasi_abi import Errno, FdFlags, OpenFlags, Rights, WasiError
from journal.errors import FormatError, NotResumable
from journal.events import BY_TAG, codec, descriptors, paths, sockets
from journal.events.core import TtySet
from journal.events.definition import Event, Group
from journal.events.inputs import HostCall, HostResult
from journal.events.wire_types import SocketAddress

#: What comes of taking apart what a journal should not have, or of making as large a file as it
#: says. An errno is no such thing: a guest is refused much.
_MALFORMED = (FormatError, struct.error, ValueError, LookupError, OverflowError, MemoryError)

_RESULT = HostResult.tag
_PROBE = HostCall.PROBE
#: Asked for on their own; every other answer follows what the guest did.
_QUERIES = frozenset(
    (
        HostCall.READ,
        HostCall.STAT,
        HostCall.LIST,
        HostCall.SIZE,
        HostCall.SYNC,
        HostCall.READLINK,
    )
)


def rebuild_state(state: CallContext, batches: Iterator[Batch], upto: int) -> None:
    """Bring ``state`` to behind event ``upto``, which stands between two calls of the guest.

    ``state`` is that of a guest that has not begun, or has been brought to where ``batches``
    begin; of these only what has ``REBUILD_TAGS`` is needed. Nothing of the host is touched. Raises
    ``NotResumable`` for an event that does not follow from those before it; ``state`` is of no
    use then.
    """
    rows = _RecordedAnswers(batches, upto)
    with state.tape.substitute(rows.tell, rows.ask):
        for row in rows.each:
            effect = _EFFECT_HANDLERS.get(row[1])
            if effect is None:
                rows.pass_over(row)
                continue
            kind, repeat = effect
            rows.effect, rows.is_done, state.tape.last_effect_seq = row, False, row[0]
            try:
                repeat(state, *codec.make_unpacker(kind)(row[2]))
            except WasiError as refusal:
                rows.refused(refusal)
            except _MALFORMED as error:
                raise _inconsistent(row, str(error)) from error
            if not rows.is_done:
                raise _inconsistent(row, "it is no effect")
    rows.end()


class _RecordedAnswers:
    """What the objects of the engine hear and speak to: the rows of a journal.

    ``each`` are those that matter. ``effect`` is the one that is done again: it is told once, and
    the host's answer to it follows; a probe that came before is kept until it is asked for.
    """

    def __init__(self, batches: Iterator[Batch], upto: int) -> None:
        self.each = _iter_relevant(batches, upto)
        self.effect: TapeRow = (-1, 0, b"", 0)
        self.is_done = False
        self._probe: TapeRow | None = None

    def pass_over(self, row: TapeRow) -> None:
        """An answer that changes nothing, or a probe, which belongs to what comes next."""
        self._without_probe()
        call = row[2][0] if row[2] else -1
        if call == _PROBE:
            self._probe = row
        elif call not in _QUERIES:
            raise _inconsistent(row, "it answers nothing")

    def refused(self, refusal: WasiError) -> None:
        """The host has refused the effect: nothing has changed. Nobody else may have."""
        if not self.is_done:
            raise _inconsistent(
                self.effect, f"it is refused with {Errno(refusal.errno).name}"
            ) from refusal

    def end(self) -> None:
        """No row is left."""
        self._without_probe()

    def tell(self, tag: int, payload: bytes) -> int:
        """The effect, as it is done again: it is the row's, whose time it is."""
        row = self.effect
        if row[2] != payload or row[1] != tag or self._probe is not None:
            raise _inconsistent(row, "done again it is another")
        self.is_done = True
        return row[3]

    def ask(self, tag: int, prefix: bytes, live: Callable[[], bytes]) -> bytes:
        """What the host answered to the effect, or to the probe before it."""
        row, self._probe = self._probe, None
        if self.is_done:
            row = next(self.each, None)
        if row is None or row[1] != tag or not row[2].startswith(prefix):
            raise _inconsistent(self.effect, "the host's answer is missing")
        return row[2]

    def _without_probe(self) -> None:
        if self._probe is not None:
            raise _inconsistent(self._probe, "nothing follows that it was asked for")


def _iter_relevant(batches: Iterator[Batch], upto: int) -> Iterator[TapeRow]:
    """The rows that matter, up to event ``upto``."""
    folded = REBUILD_TAGS
    for batch in batches:
        strange = set(batch.tags) - BY_TAG.keys()
        if strange:
            raise NotResumable(
                f"the journal has events of the unknown kind {min(strange)}: a newer version of "
                "journal has to resume it"
            )
        for row in zip(*batch, strict=True):
            if row[0] > upto:
                return
            if row[1] in folded:
                yield row


def _inconsistent(row: TapeRow, why: str) -> NotResumable:
    kind = BY_TAG[row[1]].__name__
    return NotResumable(f"event {row[0]}, a {kind}, does not fit what is before it: {why}")


# -- the effects: what the calls do once they have read their arguments out of memory -------------


def _write(state: CallContext, fd: int, offset: int, is_64bit: bool, data: bytes) -> None:
    descriptor = state.descriptors.used.get(fd)
    if type(descriptor) is not OpenFile or not descriptor.is_writable:
        raise WasiError(Errno.BADF)
    descriptor.file.write(fd, offset, data)


def _open(
    state: CallContext,
    fd: int,
    dirfd: int,
    lookup: int,
    flags: int,
    fdflags: int,
    rights: int,
    inheriting: int,
    path: str,
) -> None:
    _reserve_descriptor(state, fd)
    opening = OpenRequest(
        fd=fd,
        dirfd=dirfd,
        lookup=lookup,
        path=path,
        flags=OpenFlags(flags),
        rights=Rights(rights),
        inheriting=Rights(inheriting),
        fdflags=FdFlags(fdflags),
    )
    open_path(state, state.descriptors.get_directory(dirfd).directory, opening)


def _reserve_descriptor(state: CallContext, fd: int) -> None:
    """Let ``fd`` be the next number.

    Where a compaction has left out what was opened and closed, others are due; which are free is
    told by the snapshot.
    """
    if fd in state.descriptors.used or fd >= DESCRIPTORS_MAX:
        raise ValueError(f"descriptor {fd} is not free")
    if fd != state.descriptors.next_fd():
        state.descriptors.free = {fd}


def _renumber(state: CallContext, old: int, new: int) -> None:
    """Give a descriptor a number that another had, which a compaction may have left out."""
    state.descriptors.get(old)
    if new not in state.descriptors.used and new < DESCRIPTORS_MAX:
        state.descriptors.used[new] = OutputStream(STDOUT, terminal=False)  # nothing to close
        state.descriptors.free.discard(new)
    fd_renumber(state, old, new)


def _writable_directory(state: CallContext, fd: int) -> GuestDirectory:
    directory = state.descriptors.get_directory(fd).directory
    check_writable(directory)
    return directory


def _create_directory(state: CallContext, fd: int, path: str) -> None:
    _writable_directory(state, fd).create_directory(fd, path)


def _remove_directory(state: CallContext, fd: int, path: str) -> None:
    _writable_directory(state, fd).remove_directory(fd, path)


def _unlink(state: CallContext, fd: int, path: str) -> None:
    _writable_directory(state, fd).unlink(fd, path)


def _set_path_times(
    state: CallContext, fd: int, lookup: int, atime: int, mtime: int, flags: int, path: str
) -> None:
    times = make_requested_times(atime, mtime, flags)
    _writable_directory(state, fd).set_times_at(fd, path, lookup, times)


def _link(
    state: CallContext, old_fd: int, lookup: int, new_fd: int, old_path: str, new_path: str
) -> None:
    old, new = _writable_directory(state, old_fd), _writable_directory(state, new_fd)
    old.link(old_fd, lookup, old_path, new, new_fd, new_path)


def _symlink(state: CallContext, fd: int, target: str, path: str) -> None:
    check_path(target)
    _writable_directory(state, fd).symlink(fd, target, path)


def _rename(state: CallContext, old_fd: int, new_fd: int, old_path: str, new_path: str) -> None:
    old, new = _writable_directory(state, old_fd), _writable_directory(state, new_fd)
    old.rename(old_fd, old_path, new, new_fd, new_path)


def _open_socket(state: CallContext, family: int, kind: int, protocol: int, fd: int) -> None:
    _reserve_descriptor(state, fd)
    state.network.open(family, kind, protocol)


def _bind(state: CallContext, fd: int, address: SocketAddress) -> None:
    state.network.bind(fd, address)


def _listen(state: CallContext, fd: int, backlog: int) -> None:
    state.network.listen(fd, backlog)


def _set_terminal(state: CallContext, *values: int) -> None:
    if max(values[:4]) > SIDE_MAX:
        raise WasiError(Errno.INVAL)
    state.terminal.set(TerminalSettings._make(values))


def _reject(state: CallContext, *values: object) -> None:
    raise ValueError("a guest cannot do that here")


EffectHandler = Callable[..., None]

#: What does an effect again: a function of the state and the event's values.
_HANDLERS: dict[type[Event], EffectHandler] = {
    descriptors.OpenFileDescriptor: _open,
    descriptors.CloseFileDescriptor: fd_close,
    descriptors.RenumberFileDescriptor: _renumber,
    descriptors.FileDescriptorWrite: _write,
    descriptors.FileDescriptorSetSize: fd_filestat_set_size,
    descriptors.FileDescriptorSetTimes: fd_filestat_set_times,
    descriptors.FileDescriptorSetFlags: fd_fdstat_set_flags,
    paths.CreateDirectory: _create_directory,
    paths.RemoveDirectory: _remove_directory,
    paths.UnlinkFile: _unlink,
    paths.PathSetTimes: _set_path_times,
    paths.PathRename: _rename,
    paths.CreateHardLink: _link,
    paths.CreateSymbolicLink: _symlink,
    sockets.SocketOpen: _open_socket,
    sockets.SocketBind: _bind,
    sockets.SocketListen: _listen,
    TtySet: _set_terminal,
}

#: They change nothing but a position; and what was placed is there before a guest begins.
_IGNORED = (descriptors.FileDescriptorSeek, descriptors.FileDescriptorAdvise, paths.FilePlaced)

#: What would change files, descriptors or sockets, and is done by no call of this engine.
_UNSUPPORTED = [
    cls
    for cls in BY_TAG.values()
    if cls.group in (Group.FILES, Group.SOCKETS) and cls not in _HANDLERS and cls not in _IGNORED
]

# What takes a payload apart is made when it is first asked for: all of them delay every start.
_EFFECT_HANDLERS = {
    cls.tag: (cls, repeat)
    for cls, repeat in (_HANDLERS | dict.fromkeys(_UNSUPPORTED, _reject)).items()
}

#: The tags of what a fold needs to see.
REBUILD_TAGS = frozenset((*_EFFECT_HANDLERS, _RESULT))
