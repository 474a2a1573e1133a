"""State of the engine as plain values, observed at calls or rebuilt from a journal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import journal
from journal import Reader
from journal.engine.session import preamble
from journal.engine.session.journal_writer import NullWriter
from journal.engine.snapshot.positions import (
    apply_listing,
    apply_positions,
    capture_listings,
    capture_positions,
)
from journal.engine.snapshot.rebuild import REBUILD_TAGS, rebuild_state
from journal.engine.tape import Batch, Tape, TapeRow
from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.descriptors import InputStream, OpenDirectory, OpenFile, OutputStream
from journal.engine.wasi.filesystem.host_files import HostFile
from journal.engine.wasi.filesystem.host_fs import HostDirectory
from journal.engine.wasi.filesystem.memory_fs import MemoryDirectory
from journal.engine.wasi.filesystem.mounts import Mounts, list_host_mounts
from journal.engine.wasi.functions import PREVIEW_1
from journal.engine.wasi.stdio.outbox import STDERR, STDOUT
from journal.engine.wasi.stdio.stdin import BytesSource
from journal.events.paths import FilePlaced
from journal.events.process import Mount
from journal.vfs import DirectoryNode, FileNode, LinkNode, MemoryBackend, MemoryFile, Node
from tests.support.guest_runs import wait_for_end

Described = dict[str, Any]


class Fresh:
    """Process state before the first event, without a guest."""

    def __init__(
        self,
        mounts: Iterable[Mount],
        placed: Iterable[tuple[FilePlaced, int, int]] = (),
        files_size_max: int = 1 << 30,
        tape: Tape | None = None,
    ) -> None:
        self.tape = tape or Tape(NullWriter())
        nothing: Any = None
        self.context = CallContext(
            tape=self.tape, outbox=nothing, interrupter=nothing, arguments=[], environment=[]
        )
        events = list(mounts)
        directories = {mount.guest: mount for mount in list_host_mounts(events)}
        self.mounts = Mounts(self.tape, events, files_size_max, directories)
        self.context.descriptors.add(InputStream(BytesSource(b""), False))
        for stream in (STDOUT, STDERR):
            self.context.descriptors.add(OutputStream(stream, False))
        self.mounts.preopen(self.context.descriptors)
        self.mounts.add_copies(placed)

    @classmethod
    def of(cls, path: Path, files_size_max: int | None = None) -> Fresh:
        """Return the process of a journal before its first event."""
        with Reader(path) as reader:
            identity, _ = preamble.read(reader.blocks())
        limit = files_size_max or identity.configuration.files_size_max
        return cls(identity.mounts, identity.copied_files, limit)

    def described(self) -> Described:
        """Return the state that host functions use, as plain values."""
        return describe_state(self.context, self.mounts)

    def stand(self, wanted: Described) -> None:
        """Apply the positions and listings of a description, through their events."""
        for payload in wanted["positions"]:
            event = journal.decode(181, payload)
            assert isinstance(event, journal.events.snapshots.DescriptorPositions)
            apply_positions(self.context, event)
        for payload in wanted["listings"]:
            event = journal.decode(182, payload)
            assert isinstance(event, journal.events.snapshots.DirectoryListing)
            apply_listing(self.context, event)


def describe_state(context: CallContext, mounts: Mounts) -> Described:
    """Return the state of a process that host functions use, as plain values."""
    used = context.descriptors.used
    return {
        "descriptors": {fd: _descriptor(found) for fd, found in used.items()},
        "free": set(context.descriptors.free),
        "memory": {
            name: (backend.size, _nodes(backend, context))
            for name, backend in mounts._memory.items()
        },
        "host": {
            name: sorted(map(_opened, tree.open_handles), key=repr)
            for name, tree in mounts._host.items()
        },
        "terminal": (context.terminal.settings, context.terminal._is_set),
        "positions": [journal.encode(capture_positions(context))],
        "listings": [journal.encode(event) for event in capture_listings(context)],
    }


def _descriptor(found: Any) -> tuple[Any, ...]:
    if isinstance(found, OpenFile):
        kept = found.is_readable, found.is_writable, int(found.rights), found.flags
        return "file", _opened(found.file), *kept
    if isinstance(found, OpenDirectory):
        return "directory", _opened(found.directory), found.preopen, found.is_readable
    if isinstance(found, InputStream):
        return "input", found.terminal
    if isinstance(found, OutputStream):
        return "output", found.number, found.terminal
    return type(found).__name__, *(repr(getattr(found, name, None)) for name in _SOCKET_FIELDS)


_SOCKET_FIELDS = (
    *("family", "kind", "protocol", "local", "bound", "asked", "peer", "backlog", "flags"),
    *("connection", "options", "limits", "groups", "ended", "has_sent"),
)


def _opened(found: Any) -> tuple[Any, ...]:
    if isinstance(found, MemoryFile):
        return "file", found._backend.device, found.inode
    if isinstance(found, MemoryDirectory):
        return "directory", found.backend.device, found.at.inode
    assert isinstance(found, (HostFile, HostDirectory))
    return type(found).__name__, found._tree.path, found._node, found._flags


def _nodes(backend: MemoryBackend, context: CallContext) -> dict[int, tuple[Any, ...]]:
    """Return the nodes of a mount by inode, including unnamed nodes that are open."""
    found: dict[int, tuple[Any, ...]] = {}
    pending: list[Node] = [backend.root()]
    for used in context.descriptors.used.values():
        opened = getattr(used, "file", None) or getattr(used, "directory", None)
        if isinstance(opened, MemoryFile) and opened._backend is backend:
            pending.append(opened._node)
        elif isinstance(opened, MemoryDirectory) and opened.backend is backend:
            pending.append(opened.at)
    while pending:
        node = pending.pop()
        if node.inode in found:
            continue
        kept: tuple[Any, ...] = ()
        if isinstance(node, DirectoryNode):
            entries = [(name, below.inode) for name, below in node.entries.items()]
            kept = entries, node.parent.inode if node.parent else None
            pending += [*node.entries.values(), *([node.parent] if node.parent else [])]
        elif isinstance(node, FileNode):
            kept = bytes(node.data), node.open_count
        elif isinstance(node, LinkNode):
            kept = (node.target,)
        found[node.inode] = (type(node).__name__, node.stat(backend.device), *kept)
    return found


class Witness:
    """Observer of a process that records its state before each host call.

    ``seen`` has the sequence number of the event before each call, and the state.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[tuple[int, Described]] = []
        self._recorder: journal.Recorder | None = None
        self._looks_live_at = -1  # Number of live calls to observe; -1 observes all calls.
        for name, (signature, handler) in list(PREVIEW_1.items()):
            monkeypatch.setitem(PREVIEW_1, name, (signature, self._watching(handler)))

    def observe(self, recorder: journal.Recorder) -> None:
        """Observe the guest of a recorder that has not started."""
        self.seen, self._recorder = [], recorder

    def run(self, recorder: journal.Recorder, live: int = -1) -> journal.engine.RunResult:
        """Run a guest to its end. With ``live``, observe only that many calls after the replay."""
        self.seen = []
        self._looks_live_at = live
        self._recorder = recorder
        with recorder:
            outcome = wait_for_end(recorder)
            recorder.close()
        return outcome

    def _watching(self, handler: Any) -> Any:
        def watched(context: CallContext, *arguments: int) -> int | None:
            self._look(context)
            result: int | None = handler(context, *arguments)
            return result

        return watched

    def _look(self, context: CallContext) -> None:
        assert self._recorder is not None
        live = self._looks_live_at
        if live >= 0 and (context.tape.replaying or len(self.seen) >= live):
            return
        if context.tape.replaying:
            assert context.tape._row is not None
            before = context.tape._row[0] - 1
        else:
            before = self._recorder._writer.next_seq - 1
        mounts = self._recorder._get_process_with_files().mounts
        self.seen.append((before, describe_state(context, mounts)))


def rows_of(path: Path) -> list[TapeRow]:
    """Return all rows of a journal."""
    with Reader(path) as reader:
        return [(frame.seq, frame.tag, frame.payload, frame.time) for frame in reader.frames()]


def batches_of(rows: Iterable[TapeRow], size: int = 7) -> Iterator[Batch]:
    """Yield rows in batches of ``size``."""
    kept = list(rows)
    for start in range(0, len(kept), size):
        seqs, tags, payloads, times = zip(*kept[start : start + size], strict=True)
        yield Batch(seqs, bytes(tags), payloads, times)


def blocks_of(reader: Reader) -> Iterator[Batch]:
    """Yield the events of a journal that rebuild the state, as the engine reads them."""
    for block in reader.blocks(tags=REBUILD_TAGS):
        yield Batch(block.seqs, block.tags, block.payloads(), block.times)


def check_each(fresh: Fresh, rows: list[TapeRow], seen: list[tuple[int, Described]]) -> None:
    """Rebuild the state from call to call, and check that it equals the observed state."""
    done = -1
    for upto, wanted in seen:
        part = (row for row in rows if done < row[0])
        rebuild_state(fresh.context, batches_of(part), upto)
        fresh.stand(wanted)
        assert fresh.described() == wanted, f"at event {upto}"
        done = upto
        while rows and rows[0][0] <= done:
            del rows[0]
