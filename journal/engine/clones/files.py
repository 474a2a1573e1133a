"""Files and descriptors of a clone, and their return to a snapshot."""

import hashlib
from collections.abc import Callable, Mapping

from journal.engine.session.guest_descriptors import open_descriptors
from journal.engine.session.preamble import Identity
from journal.engine.snapshot.restore import SnapshotRestorer
from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.channel import ByteChannel
from journal.engine.wasi.descriptors import (
    Descriptor,
    InputStream,
    OpenDirectory,
    OpenFile,
    OutputStream,
)
from journal.engine.wasi.filesystem.mounts import HostMount, Mounts
from journal.engine.wasi.filesystem.own_files import OwnFiles
from journal.engine.wasi.filesystem.reopening import RecordedTimes
from journal.engine.wasi.network.socket import Socket
from journal.engine.wasi.objects.shared_pipe import SharedEnd
from journal.engine.wasi.stdio.stdin import StdinSource
from journal.errors import NotResumable
from journal.events.wire_types import encode_path
from journal.vfs.nodes import DirectoryNode, Node
from journal.vfs.resettable_backend import ResettableBackend
from journal.wasi_abi import DirectoryEntry


class CloneFiles:
    """Files and descriptors of one clone, in ``context``.

    In-memory files and the table of descriptors are set back. A clone with directories of the host
    opens its descriptors anew, and the host's files stay as they are. A clone with a channel, such
    as a pipe, makes its descriptors anew, because a session changes the objects themselves.
    """

    def __init__(
        self,
        context: CallContext,
        identity: Identity,
        start: SnapshotRestorer,
        source: StdinSource,
        terminals: tuple[int, ...],
        directories: Mapping[str, HostMount],
        own: OwnFiles,
    ) -> None:
        self._context, self._start = context, start
        self._open: Callable[[], Mounts] = lambda: open_descriptors(
            context,
            identity,
            source,
            terminals,
            directories,
            RecordedTimes(),
            own,
            ResettableBackend,
        )
        self.has_host_mounts = False
        self._restore()

    def _restore(self) -> None:
        """Rebuild the files and descriptors from the journal."""
        context = self._context
        context.release_channels()
        context.descriptors.clear()
        context.inner_network.clear()
        context.working_directory, context.clocks.realtime_offset = "/", 0
        self.mounts = self._open()
        for tree in self.mounts.host_trees:
            tree.check = context.interrupter.check
        self._start.apply_context(context)
        for fd, descriptor in context.descriptors.used.items():
            if isinstance(descriptor, Socket):
                raise NotResumable(
                    f"the guest has an open socket (descriptor {fd}) in snapshot "
                    f"{self._start.info.seq}, which its clones cannot share"
                )
            if isinstance(descriptor, SharedEnd):
                raise NotResumable(
                    f"the guest has a pipe that may lead to another process (descriptor {fd}) in "
                    f"snapshot {self._start.info.seq}, which its clones cannot share"
                )
        self._save()

    def _save(self) -> None:
        context = self._context
        self.has_host_mounts = bool(list(self.mounts.host_trees))
        channels = context.descriptors.used.values()
        self._has_channels = any(isinstance(each, ByteChannel) for each in channels)
        self._numbers = context.descriptors.copy_numbers()
        self._working_directory = context.working_directory
        self._realtime_offset = context.clocks.realtime_offset
        self._settings = context.terminal.settings
        self._interface = context.interface.state
        self._positions: list[tuple[InputStream | OutputStream | OpenFile, int, int]] = []
        self._listings: list[tuple[OpenDirectory, list[DirectoryEntry]]] = []
        for descriptor in context.descriptors.used.values():
            if isinstance(descriptor, OpenDirectory):
                self._listings.append((descriptor, descriptor.listing))
            elif not isinstance(descriptor, ByteChannel):
                self._positions.append((descriptor, descriptor.position, descriptor.flags))
        for backend in self._backends.values():
            backend.save()

    @property
    def _backends(self) -> Mapping[str, ResettableBackend]:
        return {
            name: backend
            for name, backend in self.mounts.memory_backends.items()
            if isinstance(backend, ResettableBackend)
        }

    def share(self, other: "CloneFiles") -> None:
        """Use the bytes of the equal files of another clone of the same snapshot."""
        theirs = other._backends
        for name, backend in self._backends.items():
            backend.share(theirs[name])

    def go_live(self, generation: bytes) -> None:
        """Open the files of the host for a guest that continues, and set its generation."""
        self.mounts.set_generation(generation)
        if self.has_host_mounts:
            self.mounts.reopen_handles()

    def set_limit(self, size: int | None, on_limit: Callable[[], None]) -> None:
        """Limit the files of each in-memory directory."""
        for backend in self._backends.values():
            backend.set_limit(size, on_limit)

    def reset(self) -> None:
        """Return to the snapshot."""
        context = self._context
        context.network.close_sockets()
        context.wait_started = None
        context.buffers.forget()
        context.inner_network.clear()
        if self.has_host_mounts or self._has_channels:
            self.mounts.close()
            self._restore()
            return
        context.descriptors.restore_numbers(self._numbers)
        context.working_directory = self._working_directory
        context.clocks.realtime_offset = self._realtime_offset
        for descriptor, position, flags in self._positions:
            descriptor.position, descriptor.flags = position, flags
            if not isinstance(descriptor, OpenFile):
                descriptor.watchers.clear()  # No epoll set of the session is left.
        for directory, listing in self._listings:
            directory.listing = listing
        context.terminal.settings = self._settings
        self._start.apply_signals(context)
        self._start.apply_names(context)
        context.interface.state = self._interface
        for backend in self._backends.values():
            backend.reset()

    def compute_digest(self) -> bytes:
        """Return a hash of all in-memory files, with their attributes, and of the descriptors."""
        code = hashlib.sha256()
        for name, backend in sorted(self._backends.items()):
            code.update(repr((name, backend.size)).encode())
            _hash_tree(backend.root(), code.update)
        for fd, descriptor in sorted(self._context.descriptors.used.items()):
            code.update(_describe(fd, descriptor))
        code.update(repr(sorted(self._context.descriptors.free)).encode())
        code.update(repr(tuple(self._context.terminal.settings)).encode())
        code.update(encode_path(self._context.working_directory))
        code.update(repr(self._context.interface.state).encode())
        code.update(repr(self._context.network.resolver.names.save()).encode())
        return code.digest()

    def close(self) -> None:
        """Close the files and sockets of the host."""
        self._context.network.close()
        self.mounts.close()


def _describe(fd: int, descriptor: Descriptor) -> bytes:
    """Return a descriptor as bytes: its kind, what it leads to, its rights and its position."""
    values: tuple[object, ...] = ()
    if isinstance(descriptor, OpenFile):
        inode = getattr(descriptor.file, "inode", None)
        values = (inode, descriptor.rights, descriptor.flags, descriptor.position)
    elif isinstance(descriptor, InputStream | OutputStream):
        values = (descriptor.position, descriptor.flags)
    elif isinstance(descriptor, OpenDirectory):
        values = (descriptor.preopen, len(descriptor.listing))
    elif isinstance(descriptor, ByteChannel):
        values = (descriptor.flags, descriptor.save())
    return repr((fd, type(descriptor).__name__, *values)).encode()


def _hash_tree(root: DirectoryNode, update: Callable[[bytes], None]) -> None:
    """Hash a directory and everything below it, in the order of names."""
    pending: list[tuple[str, Node]] = [("", root)]
    while pending:
        path, node = pending.pop()
        values = (node.inode, node.links, node.atime, node.mtime, node.ctime, node.filetype.value)
        content = node.content()
        open_count = getattr(node, "open_count", 0)
        update(repr((path, *values, open_count, len(content))).encode())
        update(content)
        if isinstance(node, DirectoryNode):
            names = sorted(node.entries)
            pending.extend((f"{path}/{name}", node.entries[name]) for name in names)
