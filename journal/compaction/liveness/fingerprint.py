"""Fingerprints of states whose bytes are not at hand: who wrote a byte tells which it is."""

from collections.abc import Iterable, Iterator
from typing import Any

import xxhash

from journal.compaction.liveness.file_provenance import (
    SpanDirectoryNode,
    SpanFile,
    SpanFileNode,
    SpanLinkNode,
)
from journal.compaction.liveness.provenance_host import SpanHost
from journal.replay.filesystem.memory_backend import Node
from journal.replay.state.descriptor_table import Epoll, OpenDirectory, OpenFile, PipeEnd, Socket


def print_of(parts: Iterable[str]) -> bytes:
    """The fingerprint of what is told, in parts."""
    state = xxhash.xxh3_128()
    for part in parts:
        state.update(part.encode(errors="surrogatepass"))
        state.update(b"\0")
    return state.digest()


def told(host: SpanHost) -> Iterator[str]:
    """Tell all that a host has: the same is told of the same state, and of no other."""
    process = host.process
    yield f"{process.start!r} {process.ended!r} {sorted(process.mounts)} {host.pending!r}"
    for guest, keeper in sorted(host.keepers.items()):
        yield f"mount {guest!r}"
        for node in keeper.nodes():
            yield from _told_node(node)
    shared: dict[int, int] = {}
    pipes: dict[int, int] = {}
    for fd, number in host.table:
        about = number.description
        share = shared.setdefault(id(about), len(shared))
        yield f"{fd} {share} {about.flags} {about.position} {number.fd_flags} {number.rights}"
        yield from _told_thing(about.thing, pipes)


def _told_node(node: Node) -> Iterator[str]:
    yield f"{node.kind} {node.inode} {node.links} {node.atime} {node.mtime} {node.ctime}"
    if isinstance(node, SpanFileNode):
        yield f"{node.opened} {node.size} {node.spans.parts(node.size)}"
    elif isinstance(node, SpanLinkNode):
        yield node.target
    elif isinstance(node, SpanDirectoryNode):
        yield repr([(name, below.inode) for name, below in node.entries.items()])


def _told_thing(thing: Any, pipes: dict[int, int]) -> Iterator[str]:
    if isinstance(thing, OpenFile):
        assert isinstance(thing.file, SpanFile)
        yield from _told_node(thing.file.node)
    elif isinstance(thing, OpenDirectory):
        yield repr(thing.preopen)
        yield from _told_node(thing.directory.at)
    elif isinstance(thing, PipeEnd):
        pipe = pipes.setdefault(id(thing.pipe), len(pipes))
        yield f"pipe {pipe} {thing.writes} {thing.pipe.written}"
    elif isinstance(thing, Socket):
        yield f"{thing.made!r} {thing.certain} {thing.bound!r} {thing.connected!r}"
        yield f"{thing.listening!r} {sorted(thing.shut)} {thing.sent}"
        yield repr(sorted(map(repr, [*thing.options.values(), *thing.groups])))
    elif isinstance(thing, Epoll):
        yield repr(sorted(thing.watched.items()))
    else:
        yield repr(thing)
