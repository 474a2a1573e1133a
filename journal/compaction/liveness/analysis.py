"""Liveness analysis by one replay of all events before the frontier.

Each state that compaction keeps is a root. The live events are then replayed by themselves, and
must lead to the same states, or nothing is written.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import compress
from typing import NamedTuple

from journal.compaction import event_classes
from journal.compaction.frontier import Frontier, JournalSurvey
from journal.compaction.liveness._native.fast_path import FAST_EFFECTS
from journal.compaction.liveness.dependency_graph import DependencyGraph
from journal.compaction.liveness.fingerprint import compute_fingerprint, state_tokens
from journal.compaction.liveness.memory_provenance import REGION_TAGS, MachineProvenance
from journal.compaction.liveness.provenance_host import ProvenanceHost
from journal.compaction.liveness.seq_bitset import SeqBitset
from journal.events import BY_TAG, codec, tag_sets
from journal.events.definition import key_size
from journal.events.inputs import HostResult
from journal.events.snapshots import ClearEthereal, DescriptorPositions, SafePoint, Snapshot
from journal.events.streams import StreamDelivered, StreamOpened
from journal.format.block import Block
from journal.format.columns import find_ones

_KEY_SIZES = {tag: key_size(BY_TAG[tag]) for tag in event_classes.LATEST}
_HOST_RESULT, _POSITIONS = HostResult.tag, DescriptorPositions.tag
_MICROSECOND = 1000


class LivenessResult(NamedTuple):
    """Live events among the analysed events, with proof data for a comparison of two replays.

    ``fingerprints`` are those of the states at the kept snapshots and at the frontier, ``peaks``
    the most file space that each mount needed, in bytes.
    """

    live: SeqBitset
    fingerprints: list[bytes]
    peaks: dict[str, int]

    def exceeds_peaks_of(self, other: "LivenessResult") -> bool:
        """Return whether the files of a mount needed more space at any time."""
        return any(peak > other.peaks.get(guest, 0) for guest, peak in self.peaks.items())


class LivenessAnalysis:
    """Replay of events that marks as live, at each kept snapshot, the events its state depends on.

    With ``keeps_all``, all snapshots are kept.
    """

    def __init__(
        self, survey: JournalSurvey, frontier: Frontier, *, keeps_all: bool = False
    ) -> None:
        self.graph = DependencyGraph()
        self.fingerprints: list[bytes] = []
        self._host = ProvenanceHost(self.graph)
        self._machine = MachineProvenance(self.graph)
        self._latest: dict[tuple[int, bytes], int] = {}
        # Streams without a StreamDelivered since they were opened.
        self._new_streams: set[int] = set()
        self._has_machine, self._drops_inputs = frontier.analyses_parts, frontier.drops_inputs
        self._unclosed = iter(survey.unclosed)
        self._current_unclosed = next(self._unclosed, None)
        self._kept_seqs = {info.seq for info in frontier.kept}
        self._keeps_all = keeps_all
        self._positions: tuple[tuple[int, int], ...] = ()
        self.tags = (
            event_classes.ANALYSED
            | event_classes.REPLAYED
            | event_classes.BOUNDARIES
            | {_POSITIONS, StreamOpened.tag}
        )
        self._analysed = event_classes.ANALYSED
        if self._has_machine:
            self.tags |= REGION_TAGS
            self._analysed |= tag_sets.SNAPSHOT_PARTS
        self._relevant = bytes(tag in self.tags for tag in range(256))
        self._optional = bytes(
            tag in self._analysed | event_classes.SNAPSHOT_MARKERS for tag in range(256)
        )

    def add_event(self, seq: int, tag: int, payload: bytes, now: int) -> None:
        """Replay an event. Raises ReplayError and MalformedEvent."""
        if tag in event_classes.REPLAYED:
            self._replay(seq, tag, payload, now)
        elif tag in event_classes.LATEST or tag == StreamOpened.tag:
            self._put_latest(seq, tag, payload)
        elif tag in REGION_TAGS:
            if not self._is_unclosed(seq):
                self._machine.add_event(seq, tag, payload)
        elif tag in tag_sets.KNOWN:
            self._add_boundary(seq, tag, payload)
        else:
            self.mark_state()  # An event of unknown kind may depend on anything.

    def _replay(self, seq: int, tag: int, payload: bytes, now: int) -> None:
        if tag == _HOST_RESULT:
            self._host.add_result(seq, payload, now)
        else:
            self._host.play(seq, tag, payload, now, is_pinned=tag in event_classes.ALWAYS_KEPT)
        if tag in tag_sets.INPUTS and not self._drops_inputs:
            self.graph.mark_live(seq)
        if tag in tag_sets.RESETS:
            self._machine.clear()
            self._positions = ()

    def _add_boundary(self, seq: int, tag: int, payload: bytes) -> None:
        if tag == SafePoint.tag:
            self._positions = ()
        elif tag == _POSITIONS:
            event = codec.decode(tag, payload)
            assert isinstance(event, DescriptorPositions)
            self._positions = event.positions
        elif tag == ClearEthereal.tag:
            self.graph.mark_live(seq)
            self._machine.clear_threads(seq)
            self._positions = ()
        elif tag == Snapshot.tag:
            kept = self._keeps_all or seq in self._kept_seqs
            self._host.set_positions(self._positions, seq, kept=kept)
            self._positions = ()
            if kept:
                self.mark_state()

    def _is_unclosed(self, seq: int) -> bool:
        while self._current_unclosed is not None and self._current_unclosed.stop <= seq:
            self._current_unclosed = next(self._unclosed, None)
        return self._current_unclosed is not None and self._current_unclosed.start <= seq

    def _put_latest(self, seq: int, tag: int, payload: bytes) -> None:
        """Record the newest event of its kind.

        Also keep the first StreamDelivered after each StreamOpened: a resumed session takes it as
        the size that the target had when it was opened.
        """
        if tag == StreamOpened.tag:
            self._new_streams.add(payload[0])
            return
        if tag == StreamDelivered.tag and payload[0] in self._new_streams:
            self._new_streams.discard(payload[0])
            self.graph.mark_live(seq)
        self._latest[tag, payload[: _KEY_SIZES[tag]]] = seq

    def mark_state(self) -> None:
        """Mark the events that the current state depends on as live, and add its fingerprint."""
        self._machine.link_ended_threads()
        for owner in set(self._owners()):  # Most events own several values.
            self.graph.mark_live(owner)
        for seq in self._latest.values():
            self.graph.mark_live(seq)
        self.fingerprints.append(compute_fingerprint(self._state_tokens()))

    def mark_pending_state(self) -> None:
        """Mark the current state, and the requests whose host results have not arrived.

        An event that is not live now is dropped before the result arrives.
        """
        for owner in self._host.pending_requests():
            self.graph.mark_live(owner)
        self.mark_state()

    def settle_before(self, upto: int) -> None:
        """Record that all remaining events before ``upto`` are kept."""
        self.graph.settle_before(upto)
        self.fingerprints = []

    def forget_before(self, upto: int) -> int:
        """Settle and forget the owners before ``upto``, and return the number of names."""
        self.settle_before(upto)
        return self._host.forget_before(upto)

    def collect_garbage(self) -> None:
        """Remove unreachable events from a full graph, so that memory stays bounded."""
        if self.graph.is_full:
            self._machine.link_ended_threads()
            self.graph.sweep(self._owners())

    def result(self) -> LivenessResult:
        """Return the result of the analysis."""
        return LivenessResult(self.graph.live, self.fingerprints, self._host.peaks)

    def _owners(self) -> Iterator[int]:
        yield from self._host.owners()
        yield from self._machine.owners()

    def _state_tokens(self) -> Iterator[str]:
        yield from state_tokens(self._host)
        yield from self._machine.state_tokens()
        yield repr(sorted((str(key), seq) for key, seq in self._latest.items()))

    def add_block(self, block: Block, upto: int, only: SeqBitset | None) -> None:
        """Replay the events of a block before ``upto``.

        Of the analysed events, replay only those in ``only``.
        """
        tags, count = block.tags, block.count
        if block.last_seq >= upto:
            count = bisect_left(block.seqs, upto)
        mask = (
            bytes((1,)) * count
            if _has_unknown_tags(block)
            else tags[:count].translate(self._relevant)
        )
        if only is not None:
            mask = self._filter_mask(block, mask, only)
        self._play_events(block, find_ones(mask))

    def _play_events(self, block: Block, indices: list[int]) -> None:
        """Replay the events at ``indices``, most of them on the fast path."""
        host, times = self._host, block.times_at(indices)
        for (seq, tag, payload), time in zip(block.rows(indices), times, strict=True):
            now = time * _MICROSECOND
            fast_effect = FAST_EFFECTS.get(tag)
            if fast_effect is not None and fast_effect(host.provenance, seq, payload, now):
                host.clear_request()
            else:
                self.add_event(seq, tag, payload, now)

    def _filter_mask(self, block: Block, mask: bytes, only: SeqBitset) -> bytes:
        """Return ``mask`` without the events that compaction would drop."""
        seqs, tags = block.seqs, block.tags
        remaining = bytearray(mask)
        for index in compress(range(len(mask)), tags.translate(self._optional)):
            if tags[index] in self._analysed:
                remaining[index] &= seqs[index] in only
            else:
                remaining[index] &= self._keeps_all or seqs[index] in self._kept_seqs
        return bytes(remaining)


def _has_unknown_tags(block: Block) -> bool:
    return not set(block.tags) <= tag_sets.KNOWN


def find_live_events(
    blocks: Iterable[Block],
    survey: JournalSurvey,
    frontier: Frontier,
    only: SeqBitset | None = None,
) -> LivenessResult:
    """Replay a journal up to the frontier. With ``only``, skip analysed events that are not in it.

    ``blocks`` are the blocks with events to replay. Raises ReplayError and MalformedEvent if an
    event cannot be replayed, and DependsOnDroppedSnapshot if a state depends on a dropped snapshot.
    """
    analysis = LivenessAnalysis(survey, frontier)
    for block in blocks:
        if block.first_seq >= frontier.upto:
            break
        analysis.add_block(block, frontier.upto, only)
        analysis.collect_garbage()
    analysis.graph.mark_live(survey.last_seq)
    if not frontier.kept or frontier.kept[-1].seq + 1 < frontier.upto:
        analysis.mark_state()
    return analysis.result()
