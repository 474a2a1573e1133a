"""Fingerprints of states without file bytes: the owner of a byte identifies its value."""

from collections.abc import Iterable, Iterator
from typing import Any

import xxhash

from journal.compaction.liveness.file_provenance import (
    ProvenanceDirectoryNode,
    ProvenanceFile,
    ProvenanceFileNode,
    ProvenanceLinkNode,
)
from journal.compaction.liveness.provenance_host import ProvenanceHost
from journal.replay.state.descriptor_table import (
    Epoll,
    OpenFileDescription,
    OpenMountDirectory,
    OpenMountFile,
    PipeEnd,
    SocketState,
)
from journal.vfs.nodes import Node


def compute_fingerprint(parts: Iterable[str]) -> bytes:
    """Return the hash of a sequence of state tokens."""
    state = xxhash.xxh3_128()
    for part in parts:
        state.update(part.encode(errors="surrogatepass"))
        state.update(b"\0")
    return state.digest()


def state_tokens(host: ProvenanceHost) -> Iterator[str]:
    """Yield a description of a host's state. Only equal states have equal tokens."""
    process = host.process
    yield f"{process.start!r} {process.end_event!r} {sorted(process.mounts)} {host.pending!r}"
    for guest, backend in sorted(host.backends.items()):
        yield f"mount {guest!r}"
        for node in backend.nodes():
            yield from _node_tokens(node)
    numbers = host.table.number_descriptions()
    pipes: dict[int, int] = {}
    for fd, entry in host.table:
        description = entry.description
        yield (
            f"{fd} {numbers[description]} {description.flags} {description.position} "
            f"{entry.fd_flags} {entry.rights}"
        )
        yield from _object_tokens(description.object, pipes, numbers)


def _node_tokens(node: Node) -> Iterator[str]:
    yield f"{node.filetype} {node.inode} {node.links} {node.atime} {node.mtime} {node.ctime}"
    if isinstance(node, ProvenanceFileNode):
        yield f"{node.open_count} {node.size} {node.intervals.intervals(node.size)}"
    elif isinstance(node, ProvenanceLinkNode):
        yield node.target
    elif isinstance(node, ProvenanceDirectoryNode):
        yield repr([(name, child.inode) for name, child in node.entries.items()])


def _object_tokens(
    obj: Any, pipes: dict[int, int], numbers: dict[OpenFileDescription, int]
) -> Iterator[str]:
    if isinstance(obj, OpenMountFile):
        assert isinstance(obj.file, ProvenanceFile)
        yield from _node_tokens(obj.file.node)
    elif isinstance(obj, OpenMountDirectory):
        yield repr(obj.preopen)
        yield from _node_tokens(obj.directory.at)
    elif isinstance(obj, PipeEnd):
        pipe = pipes.setdefault(id(obj.pipe), len(pipes))
        yield f"pipe {pipe} {obj.is_write_end} {obj.pipe.written}"
    elif isinstance(obj, SocketState):
        # The counts of bytes and the last error are not state: no later event depends on them.
        yield f"{obj.created_by!r} {obj.is_certain} {obj.is_inside} {obj.bound!r}"
        yield f"{obj.requested!r} {obj.is_refused} {obj.connected!r} {obj.listening!r}"
        yield f"{sorted(obj.shut)} {obj.has_sent}"
        yield repr(sorted(map(repr, [*obj.options.values(), *obj.groups])))
    elif isinstance(obj, Epoll):
        # The order of watches with the same number of a descriptor is part of the state.
        yield from (
            f"{watch.fd} {numbers[watch.target] if watch.target else None} {event!r}"
            for watch, event in sorted(obj.watches.items(), key=lambda item: item[0].fd)
        )
    else:
        yield repr(obj)
