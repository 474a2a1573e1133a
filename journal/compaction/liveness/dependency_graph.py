"""Which events a state is made of: it is collected as garbage collectors do it.

A state has cells: a name in a directory, bytes of a file, a time of a node, a descriptor's number.
Each cell is owned by the event that set it last. An event dependencies those that it could not be
played without, and those that end what it began. What is reached from the cells at a live snapshot
is live for good; what is reached from nowhere can go.
"""

from collections.abc import Iterable, Sequence
from itertools import repeat

from journal.compaction.liveness.seq_bitset import SeqBitset

BEFORE_JOURNAL = -1
"""The owner of what was there before the first event."""
DROPPED_SNAPSHOT = -2
"""The owner of what only a snapshot said, which is not live."""
EVENT_COUNT_MAX = 1 << 18
"""Events of which it is not known yet whether they are live; more of them are, rather."""
DEFERRED_COUNT_MAX = 1 << 18
"""Writes that are put off until somebody asks who owns a file's bytes."""


class DependsOnDroppedSnapshot(Exception):
    """Something depends on a snapshot that was to be dropped."""


class _SettledSeqs(SeqBitset):
    """Event numbers, among them all below ``upto``."""

    __slots__ = ("_upto",)

    def __init__(self, upto: int) -> None:
        super().__init__()
        self._upto = upto
        self.last = upto - 1

    def __contains__(self, seq: int) -> bool:
        return 0 <= seq < self._upto or super().__contains__(seq)


class DependencyGraph:
    """What each event dependencies, as far as it is not known that it is live.

    ``live`` are those that are, ``seq`` is the event that is being played, ``is_pinned`` that it is
    live whatever comes, and ``late`` how many writes have been put off.

    > Why tuples? The garbage collector would look at each list again and again.
    """

    __slots__ = (
        "_dependencies",
        "_edges",
        "_limit",
        "_reverse",
        "deferred_count",
        "is_pinned",
        "live",
        "seq",
    )

    def __init__(self) -> None:
        self.live = SeqBitset()
        self.seq = BEFORE_JOURNAL
        self.is_pinned = False
        self.deferred_count = 0
        self._dependencies: set[int] = set()
        self._reverse: list[int] = []
        self._edges: dict[int, int | tuple[int, ...]] = {}
        self._limit = EVENT_COUNT_MAX

    def begin_event(self, seq: int, *, is_pinned: bool = False) -> None:
        """An event is played."""
        self.seq, self.is_pinned = seq, is_pinned

    def add_dependency(self, owner: int) -> None:
        """It could not be played without this one."""
        self._dependencies.add(owner)

    def add_reverse_dependency(self, owner: int | None) -> None:
        """It ends what this one began, if any did: where that is live, it has to be, too."""
        if owner == BEFORE_JOURNAL:
            self.is_pinned = True
        elif owner is not None:
            self._reverse.append(owner)

    def finish_event(self) -> None:
        """The event has been played."""
        seq, dependencies, reverse = self.seq, self._dependencies, self._reverse
        if dependencies:
            self._dependencies = set()
            live, last = self.live, self.live.last
            missing = [
                o
                for o in dependencies
                if o != BEFORE_JOURNAL and o != seq and (o > last or o not in live)
            ]
            if seq in self._edges or seq <= last:
                for owner in missing:
                    self.link(seq, owner)
            elif missing:  # as a tie of each would, in one step
                self._edges[seq] = tuple(missing) if len(missing) > 1 else missing[0]
        if reverse:
            self._reverse = []
            for owner in reverse:
                self.link(owner, seq)
        if self.is_pinned:
            self.mark_live(seq)

    def link(self, seq: int, needed: int) -> None:
        """Where ``seq`` is live, ``needed`` has to be, too."""
        live = self.live
        last = live.last  # most are behind all that are live, and need not be looked up
        if needed == seq or (needed <= last and needed in live):
            return
        if seq <= last and seq in live:
            self.mark_live(needed)
            return
        known = self._edges.get(seq)
        if known is None:
            self._edges[seq] = needed
        elif isinstance(known, tuple):
            if known[-1] != needed:
                self._edges[seq] = (*known, needed)
        elif known != needed:
            self._edges[seq] = (known, needed)

    def link_new(self, seq: int, needed: int) -> None:
        """Where ``seq`` is live, which nothing was known of, ``needed`` has to be, too."""
        if needed != BEFORE_JOURNAL:
            self._edges[seq] = needed

    def begin_with(self, seq: int, dependencies: tuple[int, ...]) -> None:
        """This event is played, of which nothing was known: it could not be without these."""
        self.seq = seq
        self._edges[seq] = dependencies

    def link_reverse(self, owner: int) -> None:
        """The event that is played, and not pinned, ends what this one began."""
        if owner == BEFORE_JOURNAL:
            self.mark_live(self.seq)
        else:
            self.link(owner, self.seq)

    def link_all(self, seqs: Sequence[int], needed: int) -> None:
        """Where any of ``seqs`` is live, which need nothing else, ``needed`` has to be, too."""
        live = self.live
        if needed == BEFORE_JOURNAL or needed in live:
            return
        if seqs[0] <= live.last and any(map(live.__contains__, seqs)):
            self.mark_live(needed)
        else:
            self._edges.update(zip(seqs, repeat(needed)))

    def mark_live(self, seq: int) -> None:
        """Keep an event, and all that it dependencies."""
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
        """All in front of ``upto`` stays, and what does not is gone: nobody asks for it again."""
        self.live = _SettledSeqs(upto)
        self._edges = {}
        self._limit = EVENT_COUNT_MAX

    @property
    def is_full(self) -> bool:
        """Whether it is time to look what can go."""
        return len(self._edges) >= self._limit or self.deferred_count >= DEFERRED_COUNT_MAX

    def sweep(self, roots: Iterable[int]) -> None:
        """Forget what nothing is made of any more; keep all where that is still too much."""
        edges, reached = self._edges, set[int]()
        pending = [root for root in roots if root in edges]
        while pending:
            seq = pending.pop()
            if seq not in reached:
                reached.add(seq)
                dependencies = edges[seq]
                some = dependencies if isinstance(dependencies, tuple) else (dependencies,)
                pending += [needed for needed in some if needed in edges]
        self._edges = {seq: dependencies for seq, dependencies in edges.items() if seq in reached}
        self._limit = max(EVENT_COUNT_MAX, 2 * len(self._edges))
        self.deferred_count = 0  # whoever gave the roots has asked for all owners
        if len(self._edges) > EVENT_COUNT_MAX:
            for seq in list(self._edges):
                self.mark_live(seq)
            self._limit = EVENT_COUNT_MAX
