"""Descriptors and files that a process has before its guest starts."""

from collections.abc import Collection, Mapping

from journal.engine.session.preamble import Identity
from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.descriptors import InputStream, OutputStream
from journal.engine.wasi.filesystem.mounts import HostMount, Mounts
from journal.engine.wasi.filesystem.own_files import OwnFiles
from journal.engine.wasi.filesystem.reopening import RecordedTimes
from journal.engine.wasi.network.listeners import make_listener
from journal.engine.wasi.stdio.outbox import STDERR, STDIN, STDOUT
from journal.engine.wasi.stdio.stdin import StdinSource
from journal.errors import NotResumable, OptionError
from journal.events.process import HOST_MOUNTS
from journal.vfs.memory_backend import MemoryBackend


def has_host_mounts(identity: Identity) -> bool:
    """Return whether the guest has a directory of the host."""
    return any(mount.kind in HOST_MOUNTS for mount in identity.mounts)


def open_descriptors(
    context: CallContext,
    identity: Identity,
    source: StdinSource,
    terminals: Collection[int],
    directories: Mapping[str, HostMount],
    times: RecordedTimes,
    own: OwnFiles | None = None,
    make_backend: type[MemoryBackend] = MemoryBackend,
) -> Mounts:
    """Add the standard streams, the mounts and the listeners to the descriptors.

    Returns the mounts.

    ``directories`` has the granted directories of the host by the guest paths of their mounts, and
    ``own`` are the files that the guest does not reach. ``make_backend`` makes the backend of each
    in-memory directory. The copied files are in the mounts. The caller closes the mounts. Raises
    ``OptionError`` for a copy that is impossible; if a journal has that copy, raises
    ``NotResumable``.
    """
    context.descriptors.add(InputStream(source, STDIN in terminals))
    for stream in (STDOUT, STDERR):
        context.descriptors.add(OutputStream(stream, stream in terminals))
    mounts = Mounts(
        context.tape,
        identity.mounts,
        identity.configuration.files_size_max,
        directories,
        times,
        own,
        make_backend,
    )
    mounts.preopen(context.descriptors)
    for listener in identity.listeners:
        context.descriptors.add(make_listener(listener))
    mounts.add_copies(identity.copied_files, NotResumable if identity.is_recorded else OptionError)
    return mounts
