"""Replay host that records the provenance of files and descriptors."""

from collections.abc import Iterator

from journal.compaction import event_classes
from journal.compaction.liveness.attribute_provenance import (
    record_attributes,
    record_outcome,
)
from journal.compaction.liveness.dependency_graph import (
    BEFORE_JOURNAL,
    DROPPED_SNAPSHOT,
    DependencyGraph,
)
from journal.compaction.liveness.descriptor_provenance import (
    ProvenanceTable,
    TrackedDescription,
    TrackedDescriptor,
)
from journal.compaction.liveness.file_provenance import (
    ProvenanceBackend,
    ProvenanceDirectoryNode,
    ProvenanceFile,
    ProvenanceFileNode,
    iterate_owners,
)
from journal.events import codec, descriptors, paths
from journal.events.definition import Event
from journal.events.inputs import HostCall, HostResult
from journal.events.process import ProcessStart
from journal.replay import apply
from journal.replay.effects.pending_calls import is_accepted
from journal.replay.hosts.base import BaseHost
from journal.replay.limits import ReplayError, ReplayLimits
from journal.replay.state.descriptor_table import HostNode, OpenMountDirectory, OpenMountFile
from journal.wasi_abi import STILL_PENDING

_UNLIMITED = ReplayLimits(files_size_max=1 << 62)
_QUERIES = frozenset(
    map(
        int,
        (
            *(HostCall.READ, HostCall.STAT, HostCall.LIST, HostCall.SYNC, HostCall.READLINK),
            *(HostCall.ACCEPT, HostCall.GET_OPTION, HostCall.STATUS, HostCall.ADDRESS),
            HostCall.WAIT,
        ),
    )
)
"""Calls whose results belong to no request. No file and no descriptor depends on them."""
_SIZE, _PROBE, _CONNECT = map(int, (HostCall.SIZE, HostCall.PROBE, HostCall.CONNECT))
_ONE_DIRECTORY = (
    paths.CreateDirectory,
    paths.RemoveDirectory,
    paths.PathSetTimes,
    paths.CreateSymbolicLink,
    paths.UnlinkFile,
    descriptors.FileDescriptorSetTimes,
)
_TWO_DIRECTORIES = (paths.CreateHardLink, paths.PathRename)


class ProvenanceHost(BaseHost[ProvenanceBackend]):
    """Host for the events of files, descriptors and sockets, and for starts and ends of processes.

    A request to the host, its result, and a probe before it are kept or dropped together.
    """

    provenance: ProvenanceTable
    keeps_output = False

    def __init__(self, graph: DependencyGraph) -> None:
        self.graph = graph
        self._peaks: dict[str, int] = {}
        self._pending_seq = self._request_seq = self._probe = BEFORE_JOURNAL
        self.backends: dict[str, ProvenanceBackend] = {}
        super().__init__(_UNLIMITED)

    @property
    def tags(self) -> frozenset[int]:
        """Tags of the events that the host replays."""
        return event_classes.REPLAYED

    def make_backend(self, guest: str) -> ProvenanceBackend:
        """Return the backend for the files of a memory mount."""
        return ProvenanceBackend(self.limits.files_size_max, self, self.graph)

    def _reset(self) -> None:
        self._peaks = self.peaks
        super()._reset()
        self.table = self.provenance = ProvenanceTable(self.graph)
        self._pending_seq = self._request_seq = self._probe = BEFORE_JOURNAL

    @property
    def peaks(self) -> dict[str, int]:
        """Maximum number of bytes that the files of each mount have used."""
        peaks = dict(self._peaks)
        for guest, backend in self.backends.items():
            peaks[guest] = max(peaks.get(guest, 0), backend.peak)
        return peaks

    # -- replay ----------------------------------------------------------------------------------

    def play(self, seq: int, tag: int, payload: bytes, now: int, *, is_pinned: bool) -> None:
        """Replay an event; ``is_pinned`` keeps it. Raises ReplayError and MalformedEvent."""
        self.seq, self.now = seq, now
        self.graph.begin_event(seq, is_pinned=is_pinned)
        event, request = codec.decode(tag, payload), self.pending
        self._apply(event)
        if isinstance(event, ProcessStart):
            self.provenance.lacks_host_results = not self.process.has_host_results
        if self.pending is event:
            if request is not None:  # The earlier request has no result.
                self.graph.add_reverse_dependency(self._pending_seq)
            self._pending_seq = seq
        else:
            record_attributes(event, self.provenance)
        self._note_request(seq, event)
        self.graph.finish_event()

    def _apply(self, event: Event) -> None:
        try:
            apply(event, self)
        except ReplayError as error:
            error.seq = self.seq
            raise

    def clear_request(self) -> None:
        """Record that the last event made no request to the host."""
        self._request_seq = self._probe = BEFORE_JOURNAL

    def set_positions(
        self, positions: tuple[tuple[int, int], ...], seq: int, *, kept: bool
    ) -> None:
        """Set the descriptor positions of a snapshot, owned by ``seq`` if the snapshot is kept."""
        for fd, offset in positions:
            entry = self.table.entries.get(fd)
            if entry is not None:
                assert isinstance(entry.description, TrackedDescription)
                entry.description.position = offset
                entry.description.position_owner = seq if kept else DROPPED_SNAPSHOT

    # -- requests to the host ---------------------------------------------------------------------

    def _note_request(self, seq: int, event: Event) -> None:
        """Record whether ``event`` is a request to the host, which a host result must follow."""
        is_request = self.pending is event
        if isinstance(event, _ONE_DIRECTORY):
            is_request = self._is_of_host(event.fd)
        elif isinstance(event, _TWO_DIRECTORIES):
            is_request = self._is_of_host(event.old_fd)
        is_request = is_request and not self.provenance.lacks_host_results
        if is_request and self._probe != BEFORE_JOURNAL:
            self.graph.link(seq, self._probe)
        if is_request and isinstance(event, paths.PathRename):
            self._record_rename(seq)
        self._request_seq, self._probe = (seq if is_request else BEFORE_JOURNAL), BEFORE_JOURNAL

    def _is_of_host(self, fd: int) -> bool:
        entry = self.table.entries.get(fd)
        return entry is not None and isinstance(entry.description.object, HostNode)

    def _record_rename(self, seq: int) -> None:
        """Record that open host objects may have new names after the rename ``seq``."""
        for entry in self.table.entries.values():
            description = entry.description
            assert isinstance(description, TrackedDescription)
            if isinstance(description.object, HostNode) and description.object.preopen is None:
                description.attributes.all.append(seq)

    def add_result(self, seq: int, payload: bytes, now: int) -> None:
        """Replay a host result, and link it with its request. Ignore results without effect."""
        call = payload[0] if payload else -1
        request_seq, request = self._request_seq, self.pending
        if request is None and call in _QUERIES:
            return
        if call == _PROBE:
            self._probe = seq
            return
        if request is not None or call in (_SIZE, _CONNECT):
            self.seq, self.now = seq, now
            result = codec.decode(HostResult.tag, payload)
            assert isinstance(result, HostResult)
            self._apply_result(result, request)
            if request is not None and self.pending is None:
                request_seq = self._pending_seq
        if request_seq != BEFORE_JOURNAL and (
            call not in (_SIZE, *_QUERIES) or self._pending_seq == request_seq
        ):
            self.graph.link(seq, request_seq)
            self.graph.link(request_seq, seq)
            self._request_seq = BEFORE_JOURNAL

    def _apply_result(self, result: HostResult, request: Event | None) -> None:
        """Apply a host result, and record the attributes that it or its request has set."""
        self.graph.begin_event(self.seq, is_pinned=self.provenance.lacks_host_results)
        self._apply(result)
        if request is not None and self.pending is None and is_accepted(result):
            record_attributes(request, self.provenance)
        elif result.call is HostCall.CONNECT and result.errno not in STILL_PENDING:
            record_outcome(result, self.provenance)
        elif result.call is HostCall.SIZE and not result.errno:
            self._record_size(result.fd)
        self.graph.finish_event()

    def _record_size(self, fd: int) -> None:
        """Record the size of a host file that was reported to the guest."""
        entry = self.table.entries.get(fd)
        if entry is not None and isinstance(entry.description.object, HostNode):
            assert isinstance(entry, TrackedDescriptor)
            assert isinstance(entry.description, TrackedDescription)
            self.graph.add_dependency(entry.owner)
            entry.description.attributes.latest["size"] = self.seq

    # -- owners ----------------------------------------------------------------------------------

    def pending_requests(self) -> tuple[int, int]:
        """Return the request whose result has not arrived, and the probe before it."""
        return self._request_seq, self._probe

    def forget_before(self, upto: int) -> int:
        """Forget owners before ``upto``, and the peaks, and return the number of names.

        Descriptors count as names.
        """
        files: set[ProvenanceFileNode] = set()
        count = len(self.table.entries)
        for backend in self.backends.values():
            backend.reset_peak()
            for node in backend.nodes():
                count += 1
                if isinstance(node, ProvenanceFileNode):
                    files.add(node)
        for entry in self.table.entries.values():
            description = entry.description
            assert isinstance(description, TrackedDescription)
            description.attributes.all.clear()
            if isinstance(description.object, OpenMountFile):
                assert isinstance(description.object.file, ProvenanceFile)
                files.add(description.object.file.node)
        for node in files:
            node.intervals.settle_before(upto)
        self._peaks = {}
        return count

    def owners(self) -> Iterator[int]:
        """Yield the owners of the whole state."""
        yield from self.provenance.owners()
        for backend in self.backends.values():
            for node in backend.nodes():
                yield from iterate_owners(node)
        for entry in self.table.entries.values():
            obj = entry.description.object
            if isinstance(obj, OpenMountFile):
                assert isinstance(obj.file, ProvenanceFile)
                if not obj.file.node.links:
                    yield from iterate_owners(obj.file.node)
            elif isinstance(obj, OpenMountDirectory):
                at = obj.directory.at
                assert isinstance(at, ProvenanceDirectoryNode)
                if not at.links:
                    yield from iterate_owners(at)
        if self.pending is not None:
            yield self._pending_seq
