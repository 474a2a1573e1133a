"""A host that files and descriptors are played onto, to learn which events they are made of."""

from collections.abc import Iterator

from journal.compaction import event_classes as kinds
from journal.compaction.liveness.attribute_provenance import set_by
from journal.compaction.liveness.dependency_graph import BASE, LOST, Ledger
from journal.compaction.liveness.descriptor_provenance import (
    OwnedDescription,
    OwnedNumber,
    SpanTable,
)
from journal.compaction.liveness.file_provenance import (
    SpanDirectoryNode,
    SpanFile,
    SpanFileNode,
    SpanKeeper,
    cells_of,
)
from journal.events import codec, descriptors, paths
from journal.events.definition import Event
from journal.events.inputs import HostCall, HostResult
from journal.events.process import ProcessStart
from journal.replay import apply
from journal.replay.hosts.base import BaseHost
from journal.replay.limits import Limits, NotPlayable
from journal.replay.state.descriptor_table import HostNode, OpenDirectory, OpenFile

_ROOM = Limits(files_size_max=1 << 62)
_QUESTIONS = frozenset(
    map(int, (HostCall.READ, HostCall.STAT, HostCall.LIST, HostCall.SYNC, HostCall.READLINK))
)
_SIZE, _PROBE = int(HostCall.SIZE), int(HostCall.PROBE)
_ON_ONE = (
    paths.CreateDirectory,
    paths.RemoveDirectory,
    paths.PathSetTimes,
    paths.CreateSymbolicLink,
    paths.UnlinkFile,
    descriptors.FileDescriptorSetTimes,
)
_ON_TWO = (paths.CreateHardLink, paths.PathRename)
_SUCCESS = b"\0\0"


class SpanHost(BaseHost[SpanKeeper]):
    """A host that takes the events of files, descriptors and sockets, and what begins and ends.

    What the host was asked to do, its answer, and a probe before it, stay together.
    """

    spans: SpanTable
    keeps_output = False

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._peaks: dict[str, int] = {}
        self._pending_seq = self._asked = self._probe = BASE
        self.keepers: dict[str, SpanKeeper] = {}
        super().__init__(_ROOM)

    @property
    def tags(self) -> frozenset[int]:
        """The kinds of events that it heeds."""
        return kinds.PLAYED

    def keeper_of(self, guest: str) -> SpanKeeper:
        """Who keeps the files of a memory mount."""
        return SpanKeeper(self.limits.files_size_max, self.ledger)

    def _reset(self) -> None:
        self._peaks = self.peaks
        super()._reset()
        self.table = self.spans = SpanTable(self.ledger)
        self._pending_seq = self._asked = self._probe = BASE

    @property
    def peaks(self) -> dict[str, int]:
        """The most room that the files of each mount ever took."""
        found = dict(self._peaks)
        for guest, keeper in self.keepers.items():
            found[guest] = max(found.get(guest, 0), keeper.peak)
        return found

    # -- playing ---------------------------------------------------------------------------------

    def play(self, seq: int, tag: int, payload: bytes, now: int, *, pinned: bool) -> None:
        """Play an event; raises NotPlayable and MalformedEvent. ``pinned``: it is kept anyhow."""
        self.seq, self.now = seq, now
        self.ledger.begin(seq, pinned=pinned)
        event, waiting = codec.decode(tag, payload), self.pending
        self._apply(event)
        if isinstance(event, ProcessStart):
            self.spans.no_answers = not self.process.has_answers
        if self.pending is event:
            if waiting is not None:  # nobody ever answered that
                self.ledger.ends(self._pending_seq)
            self._pending_seq = seq
        else:
            set_by(event, self)
        self._ask(seq, event)
        self.ledger.finish()

    def _apply(self, event: Event) -> None:
        try:
            apply(event, self)
        except NotPlayable as refusal:
            refusal.seq = self.seq
            raise

    def nothing_asked(self) -> None:
        """The host was asked nothing by the event that was played."""
        self._asked = self._probe = BASE

    def stand(self, positions: tuple[tuple[int, int], ...], seq: int, *, kept: bool) -> None:
        """A snapshot says where the guest stands; what one says that is not kept, is lost."""
        for fd, offset in positions:
            found = self.table.used.get(fd)
            if found is not None:
                assert isinstance(found.description, OwnedDescription)
                found.description.position = offset
                found.description.positioned = seq if kept else LOST

    # -- what the host was asked -----------------------------------------------------------------

    def _ask(self, seq: int, event: Event) -> None:
        """Note whether the host is asked to do something that an answer has to follow."""
        asks = self.pending is event
        if isinstance(event, _ON_ONE):
            asks = self._is_of_host(event.fd)
        elif isinstance(event, _ON_TWO):
            asks = self._is_of_host(event.old_fd)
        asks = asks and not self.spans.no_answers
        if asks and self._probe != BASE:
            self.ledger.tie(seq, self._probe)
        if asks and isinstance(event, paths.PathRename):
            self._renamed(seq)
        self._asked, self._probe = (seq if asks else BASE), BASE

    def _is_of_host(self, fd: int) -> bool:
        found = self.table.used.get(fd)
        return found is not None and isinstance(found.description.thing, HostNode)

    def _renamed(self, seq: int) -> None:
        """What is open of the host may have another name from here on."""
        for number in self.table.used.values():
            about = number.description
            assert isinstance(about, OwnedDescription)
            if isinstance(about.thing, HostNode) and about.thing.preopen is None:
                about.trail.all.append(seq)

    def hear(self, seq: int, payload: bytes, now: int) -> None:
        """Play an answer of the host: to what was asked, or to nothing that is of any use."""
        call, asked, waiting = payload[0] if payload else -1, self._asked, self.pending
        if waiting is None and call in _QUESTIONS:
            return
        if call == _PROBE:
            self._probe = seq
            return
        if waiting is not None or call == _SIZE:
            self.seq, self.now = seq, now
            self.ledger.begin(seq, pinned=self.spans.no_answers)
            self._apply(codec.decode(HostResult.tag, payload))
            if waiting is not None and self.pending is None:
                asked = self._pending_seq
                if payload[5:7] == _SUCCESS:
                    set_by(waiting, self)
            elif call == _SIZE and payload[5:7] == _SUCCESS:
                self._told(int.from_bytes(payload[1:5], "little"))
            self.ledger.finish()
        if asked != BASE and (call not in (_SIZE, *_QUESTIONS) or self._pending_seq == asked):
            self.ledger.tie(seq, asked)
            self.ledger.tie(asked, seq)
            self._asked = BASE

    def _told(self, fd: int) -> None:
        """The guest was told the size of a file of the host."""
        found = self.table.used.get(fd)
        if found is not None and isinstance(found.description.thing, HostNode):
            assert isinstance(found, OwnedNumber)
            assert isinstance(found.description, OwnedDescription)
            self.ledger.need(found.by)
            found.description.trail.cells["size"] = self.seq

    # -- what there is ---------------------------------------------------------------------------

    def waiting(self) -> tuple[int, int]:
        """What the host was asked to do, and a probe, whose answers are still to come."""
        return self._asked, self._probe

    def settle(self, upto: int) -> int:
        """Let whose event in front of ``upto`` what is count no more, nor the room that it took.

        Gives how many names there are, and descriptors.
        """
        files: set[SpanFileNode] = set()
        count = len(self.table.used)
        for keeper in self.keepers.values():
            keeper.settle()
            for node in keeper.nodes():
                count += 1
                if isinstance(node, SpanFileNode):
                    files.add(node)
        for number in self.table.used.values():
            about = number.description
            assert isinstance(about, OwnedDescription)
            about.trail.all.clear()
            if isinstance(about.thing, OpenFile):
                assert isinstance(about.thing.file, SpanFile)
                files.add(about.thing.file.node)
        for node in files:
            node.spans.settle(upto)
        self._peaks = {}
        return count

    def cells(self) -> Iterator[int]:
        """Give the owners of all that there is."""
        yield from self.spans.cells()
        for keeper in self.keepers.values():
            for node in keeper.nodes():
                yield from cells_of(node)
        for number in self.table.used.values():
            thing = number.description.thing
            if isinstance(thing, OpenFile):
                assert isinstance(thing.file, SpanFile)
                if not thing.file.node.links:
                    yield from cells_of(thing.file.node)
            elif isinstance(thing, OpenDirectory):
                at = thing.directory.at
                assert isinstance(at, SpanDirectoryNode)
                if not at.links:
                    yield from cells_of(at)
        if self.pending is not None:
            yield self._pending_seq
