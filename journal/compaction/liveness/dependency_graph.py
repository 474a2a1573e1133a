"""Dependency graph of events, with mark-and-sweep collection.

A state consists of values: names in directories, bytes of files, times of nodes, descriptor
numbers. The owner of a value is the event that set it last. An event depends on the events without
which it could not be replayed, and on those that end what it began. The owners at a kept snapshot
are the roots: events reachable from them are live, and unreachable events can be dropped.
"""

from collections.abc import Iterable

from journal.compaction.liveness.seq_bitset import SeqBitset

BEFORE_JOURNAL = -1
"""Owner of a value that existed before the first event."""
DROPPED_SNAPSHOT = -2
"""Owner of a value that only a dropped snapshot contains."""
EVENT_COUNT_MAX = 1 << 18
"""Limit for undecided events in the graph; above it they become live."""


class DependsOnDroppedSnapshot(Exception):
    """A kept event depends on a dropped snapshot."""


class _SettledSeqs(SeqBitset):
    """Set of sequence numbers that contains all numbers below ``upto``."""

    __slots__ = ("_upto",)

    def __init__(self, upto: int) -> None:
        super().__init__()
        self._upto = upto
        self.last = upto - 1

    def __contains__(self, seq: int) -> bool:
        return 0 <= seq < self._upto or super().__contains__(seq)


class DependencyGraph:
    """Dependencies of the events that are not known to be live.

    ``live`` are the live events, ``seq`` is the current event, and ``is_pinned`` keeps the current
    event unconditionally.

    > Why tuples? Python's garbage collector would visit each list again and again.
    """

    __slots__ = (
        "_dependencies",
        "_edges",
        "_limit",
        "_reverse",
        "is_pinned",
        "live",
        "seq",
    )

    def __init__(self) -> None:
        self.live = SeqBitset()
        self.seq = BEFORE_JOURNAL
        self.is_pinned = False
        self._dependencies: set[int] = set()
        self._reverse: list[int] = []
        self._edges: dict[int, int | tuple[int, ...]] = {}
        self._limit = EVENT_COUNT_MAX

    def begin_event(self, seq: int, *, is_pinned: bool = False) -> None:
        """Begin to replay an event."""
        self.seq, self.is_pinned = seq, is_pinned

    def add_dependency(self, owner: int) -> None:
        """Add ``owner`` to the dependencies of the current event."""
        self._dependencies.add(owner)

    def add_reverse_dependency(self, owner: int | None) -> None:
        """Record that the current event ends what ``owner`` began: it is live if ``owner`` is."""
        if owner == BEFORE_JOURNAL:
            self.is_pinned = True
        elif owner is not None:
            self._reverse.append(owner)

    def finish_event(self) -> None:
        """Finish the current event: add its dependencies to the graph."""
        seq, dependencies, reverse = self.seq, self._dependencies, self._reverse
        if dependencies:
            self._dependencies = set()
            live, last = self.live, self.live.last
            missing = [
                owner
                for owner in dependencies
                if owner not in (BEFORE_JOURNAL, seq) and (owner > last or owner not in live)
            ]
            if seq in self._edges or seq <= last:
                for owner in missing:
                    self.link(seq, owner)
            elif missing:  # This step equals a call of link for each owner.
                self._edges[seq] = tuple(missing) if len(missing) > 1 else missing[0]
        if reverse:
            self._reverse = []
            for owner in reverse:
                self.link(owner, seq)
        if self.is_pinned:
            self.mark_live(seq)

    def link(self, seq: int, needed: int) -> None:
        """Record that ``needed`` is live if ``seq`` is."""
        live = self.live
        last = live.last  # Most sequence numbers are above the last one and need no look-up.
        if needed == seq or (needed <= last and needed in live):
            return
        if seq <= last and seq in live:
            self.mark_live(needed)
            return
        dependencies = self._edges.get(seq)
        if dependencies is None:
            self._edges[seq] = needed
        elif isinstance(dependencies, tuple):
            if dependencies[-1] != needed:
                self._edges[seq] = (*dependencies, needed)
        elif dependencies != needed:
            self._edges[seq] = (dependencies, needed)

    def begin_with(self, seq: int, dependencies: int | tuple[int, ...]) -> None:
        """Begin to replay an event that has these dependencies and no others.

        The graph must not contain ``seq``.
        """
        self.seq = seq
        self._edges[seq] = dependencies

    def link_reverse(self, owner: int) -> None:
        """Record that the current event, which is not pinned, ends what ``owner`` began."""
        if owner == BEFORE_JOURNAL:
            self.mark_live(self.seq)
        else:
            self.link(owner, self.seq)

    def mark_live(self, seq: int) -> None:
        """Mark an event, and all events it depends on, as live."""
        pending, live, edges = [seq], self.live, self._edges
        while pending:
            seq = pending.pop()
            if seq < 0 or seq in live:
                if seq == DROPPED_SNAPSHOT:
                    raise DependsOnDroppedSnapshot
                continue
            live.add(seq)
            dependencies = edges.pop(seq, None)
            if dependencies is not None:
                pending += dependencies if isinstance(dependencies, tuple) else (dependencies,)

    def settle_before(self, upto: int) -> None:
        """Record that all events before ``upto`` are kept, and clear the graph."""
        self.live = _SettledSeqs(upto)
        self._edges = {}
        self._limit = EVENT_COUNT_MAX

    @property
    def is_full(self) -> bool:
        """Return whether the graph has reached its limit."""
        return len(self._edges) >= self._limit

    def sweep(self, roots: Iterable[int]) -> None:
        """Remove events unreachable from ``roots``; mark all as live if too many remain."""
        edges, reachable = self._edges, set[int]()
        pending = [root for root in roots if root in edges]
        while pending:
            seq = pending.pop()
            if seq not in reachable:
                reachable.add(seq)
                dependencies = edges[seq]
                owners = dependencies if isinstance(dependencies, tuple) else (dependencies,)
                pending += [needed for needed in owners if needed in edges]
        self._edges = {seq: dependencies for seq, dependencies in edges.items() if seq in reachable}
        self._limit = max(EVENT_COUNT_MAX, 2 * len(self._edges))
        if len(self._edges) > EVENT_COUNT_MAX:
            for seq in list(self._edges):
                self.mark_live(seq)
            self._limit = EVENT_COUNT_MAX
