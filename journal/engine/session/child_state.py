"""What a new process gets from the one that starts it: options, environment, mounts and files."""

from collections.abc import Iterator
from dataclasses import replace

from journal.engine.session import preamble
from journal.engine.session.process import Process
from journal.engine.session.run_config import SessionConfig
from journal.engine.session.secret_environment import GuestEnvironment
from journal.engine.session.standard_streams import StandardStreams, capture_outputs
from journal.engine.wasi.filesystem.mounts import AnyMount, GenerationMount, MemoryMount
from journal.engine.wasi.stdio.stdin import FedSource
from journal.events.paths import FilePlaced, FileType
from journal.events.process import HOST_MOUNTS, MountKind
from journal.snapshots.resume_flags import list_secret_names
from journal.vfs.nodes import DirectoryNode, FileNode, Node

PART_SIZE = 1 << 20
"""Largest size of the bytes of one FilePlaced event."""


def make_child_config(config: SessionConfig) -> SessionConfig:
    """Return the options of a process that is not the first one.

    Its streams are pipes, and nothing observes or compacts its journal.
    """
    return replace(
        config,
        stdin=None,
        stdout=None,
        stderr=None,
        on_event=None,
        on_output=None,
        compaction=None,
    )


def make_child_streams() -> StandardStreams:
    """Return streams that no guest uses: the descriptors of a child are pipes."""
    return StandardStreams(FedSource(), capture_outputs(), ())


def keep_secret(variables: tuple[bytes, ...], parent: preamble.Identity) -> GuestEnvironment:
    """Return the environment of a child. Variables that are secret in its parent stay secret."""
    names = {name.encode("utf-8", "surrogateescape") for name in list_secret_names(parent.start)}
    known = parent.environment or ()
    secret = {each for each in known if each.partition(b"=")[0] in names}
    valid = tuple(each for each in variables if each.find(b"=") >= 1)
    return GuestEnvironment(valid, frozenset(secret & set(valid)))


def list_mounts(process: Process) -> list[AnyMount]:
    """Return the mounts of a child: those of its parent."""
    mounts: list[AnyMount] = []
    for event in process.identity.mounts:
        if event.kind in HOST_MOUNTS:
            directory = process.access.directories.get(event.guest)
            if directory is not None:
                mounts.append(replace(directory, guest=event.guest))
        elif event.kind is MountKind.MEMORY:
            mounts.append(MemoryMount(event.guest))
        else:
            mounts.append(GenerationMount(event.guest))
    return mounts


def list_files(process: Process) -> Iterator[FilePlaced]:
    """Yield the events that copy the files in memory of a process, a directory before its entries.

    Each process has files in memory of its own: a change of one process would be an input of the
    others.
    """
    for mount in process.identity.mounts:
        if mount.kind is MountKind.MEMORY:
            root = process.mounts.memory_backends[mount.guest].root()
            yield from _list_tree(root, "/" + mount.guest.strip("/"))


def _list_tree(root: DirectoryNode, mount: str) -> Iterator[FilePlaced]:
    pending: list[tuple[str, Node]] = [(mount.rstrip("/"), root)]
    while pending:
        path, node = pending.pop()
        if isinstance(node, DirectoryNode):
            if node is not root:
                yield FilePlaced(kind=FileType.DIRECTORY, path=path, offset=0, data=b"")
            entries = sorted(node.entries.items(), reverse=True)
            pending += [(f"{path}/{name}", entry) for name, entry in entries]
            continue
        content = node.content()
        if not isinstance(node, FileNode):
            yield FilePlaced(kind=FileType.SYMBOLIC_LINK, path=path, offset=0, data=content)
            continue
        for offset in range(0, max(len(content), 1), PART_SIZE):
            data = content[offset : offset + PART_SIZE]
            yield FilePlaced(kind=FileType.REGULAR_FILE, path=path, offset=offset, data=data)
