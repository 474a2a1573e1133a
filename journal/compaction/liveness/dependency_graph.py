"""Which events a state is made of: it is collected as garbage collectors do it.

A state has cells: a name in a directory, bytes of a file, a time of a node, a descriptor's number.
Each cell is owned by the event that set it last. An event needs those that it could not be played
without, and those that end what it began. What is reached from the cells at a kept snapshot is kept
for good; what is reached from nowhere can go.
"""

from collections.abc import Iterable, Sequence
from itertools import repeat

from journal.compaction.liveness.seq_bitset import Numbers

BASE = -1
"""The owner of what was there before the first event."""
LOST = -2
"""The owner of what only a snapshot said, which is not kept."""
GRAPH_MAX = 1 << 18
"""Events of which it is not known yet whether they are kept; more of them are, rather."""
LATE_MAX = 1 << 18
"""Writes that are put off until somebody asks who owns a file's bytes."""


class Entangled(Exception):
    """Something depends on a snapshot that was to be dropped."""


class _Settled(Numbers):
    """Event numbers, among them all below ``upto``."""

    __slots__ = ("_upto",)

    def __init__(self, upto: int) -> None:
        super().__init__()
        self._upto = upto
        self.last = upto - 1

    def __contains__(self, seq: int) -> bool:
        return 0 <= seq < self._upto or super().__contains__(seq)


class Ledger:
    """What each event needs, as far as it is not known that it is kept.

    ``kept`` are those that are, ``seq`` is the event that is being played, ``is_pinned`` that it is
    kept whatever comes, and ``late`` how many writes have been put off.

    > Why tuples? The garbage collector would look at each list again and again.
    """

    __slots__ = ("_ended", "_graph", "_limit", "_needs", "is_pinned", "kept", "late", "seq")

    def __init__(self) -> None:
        self.kept = Numbers()
        self.seq = BASE
        self.is_pinned = False
        self.late = 0
        self._needs: set[int] = set()
        self._ended: list[int] = []
        self._graph: dict[int, int | tuple[int, ...]] = {}
        self._limit = GRAPH_MAX

    def begin(self, seq: int, *, pinned: bool = False) -> None:
        """An event is played."""
        self.seq, self.is_pinned = seq, pinned

    def need(self, owner: int) -> None:
        """It could not be played without this one."""
        self._needs.add(owner)

    def ends(self, owner: int | None) -> None:
        """It ends what this one began, if any did: where that is kept, it has to be, too."""
        if owner == BASE:
            self.is_pinned = True
        elif owner is not None:
            self._ended.append(owner)

    def finish(self) -> None:
        """The event has been played."""
        seq, needs, ended = self.seq, self._needs, self._ended
        if needs:
            self._needs = set()
            kept, last = self.kept, self.kept.last
            missing = [o for o in needs if o != BASE and o != seq and (o > last or o not in kept)]
            if seq in self._graph or seq <= last:
                for owner in missing:
                    self.tie(seq, owner)
            elif missing:  # as a tie of each would, in one step
                self._graph[seq] = tuple(missing) if len(missing) > 1 else missing[0]
        if ended:
            self._ended = []
            for owner in ended:
                self.tie(owner, seq)
        if self.is_pinned:
            self.keep(seq)

    def tie(self, seq: int, needed: int) -> None:
        """Where ``seq`` is kept, ``needed`` has to be, too."""
        kept = self.kept
        last = kept.last  # most are behind all that are kept, and need not be looked up
        if needed == seq or (needed <= last and needed in kept):
            return
        if seq <= last and seq in kept:
            self.keep(needed)
            return
        known = self._graph.get(seq)
        if known is None:
            self._graph[seq] = needed
        elif isinstance(known, tuple):
            if known[-1] != needed:
                self._graph[seq] = (*known, needed)
        elif known != needed:
            self._graph[seq] = (known, needed)

    def tie_new(self, seq: int, needed: int) -> None:
        """Where ``seq`` is kept, which nothing was known of, ``needed`` has to be, too."""
        if needed != BASE:
            self._graph[seq] = needed

    def need_these(self, seq: int, needs: tuple[int, ...]) -> None:
        """This event is played, of which nothing was known: it could not be without these."""
        self.seq = seq
        self._graph[seq] = needs

    def end(self, owner: int) -> None:
        """The event that is played, and not pinned, ends what this one began."""
        if owner == BASE:
            self.keep(self.seq)
        else:
            self.tie(owner, self.seq)

    def tie_all(self, seqs: Sequence[int], needed: int) -> None:
        """Where any of ``seqs`` is kept, which need nothing else, ``needed`` has to be, too."""
        kept = self.kept
        if needed == BASE or needed in kept:
            return
        if seqs[0] <= kept.last and any(map(kept.__contains__, seqs)):
            self.keep(needed)
        else:
            self._graph.update(zip(seqs, repeat(needed)))

    def keep(self, seq: int) -> None:
        """Keep an event, and all that it needs."""
        pending, kept, graph = [seq], self.kept, self._graph
        while pending:
            seq = pending.pop()
            if seq < 0 or seq in kept:
                if seq == LOST:
                    raise Entangled
                continue
            kept.add(seq)
            needs = graph.pop(seq, None)
            if needs is not None:
                pending += needs if isinstance(needs, tuple) else (needs,)

    def settle(self, upto: int) -> None:
        """All in front of ``upto`` stays, and what does not is gone: nobody asks for it again."""
        self.kept = _Settled(upto)
        self._graph = {}
        self._limit = GRAPH_MAX

    @property
    def is_full(self) -> bool:
        """Whether it is time to look what can go."""
        return len(self._graph) >= self._limit or self.late >= LATE_MAX

    def sweep(self, roots: Iterable[int]) -> None:
        """Forget what nothing is made of any more; keep all where that is still too much."""
        graph, reached = self._graph, set[int]()
        pending = [root for root in roots if root in graph]
        while pending:
            seq = pending.pop()
            if seq not in reached:
                reached.add(seq)
                needs = graph[seq]
                some = needs if isinstance(needs, tuple) else (needs,)
                pending += [needed for needed in some if needed in graph]
        self._graph = {seq: needs for seq, needs in graph.items() if seq in reached}
        self._limit = max(GRAPH_MAX, 2 * len(self._graph))
        self.late = 0  # whoever gave the roots has asked for all owners
        if len(self._graph) > GRAPH_MAX:
            for seq in list(self._graph):
                self.keep(seq)
            self._limit = GRAPH_MAX
