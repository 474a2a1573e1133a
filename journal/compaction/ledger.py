"""Which events a state is made of: it is collected as garbage collectors do it.

A state has cells: a name in a directory, bytes of a file, a time of a node, a descriptor's number.
Each cell is owned by the event that set it last. An event needs those that it could not be played
without, and those that end what it began. What is reached from the cells at a kept snapshot is kept
for good; what is reached from nowhere can go.
"""

from collections.abc import Iterable

from journal.compaction.numbers import Numbers

BASE = -1
"""The owner of what was there before the first event."""
LOST = -2
"""The owner of what only a snapshot said, which is not kept."""
GRAPH_MAX = 1 << 18
"""Events of which it is not known yet whether they are kept; more of them are, rather."""


class Entangled(Exception):
    """Something depends on a snapshot that was to be dropped."""


class _Settled(Numbers):
    """Event numbers, among them all below ``upto``."""

    __slots__ = ("_upto",)

    def __init__(self, upto: int) -> None:
        super().__init__()
        self._upto = upto

    def __contains__(self, seq: int) -> bool:
        return 0 <= seq < self._upto or super().__contains__(seq)


class Ledger:
    """What each event needs, as far as it is not known that it is kept.

    ``kept`` are those that are, ``seq`` is the event that is being played, ``is_pinned`` that it is
    kept whatever comes.
    """

    __slots__ = ("_ended", "_graph", "_limit", "_needs", "is_pinned", "kept", "seq")

    def __init__(self) -> None:
        self.kept = Numbers()
        self.seq = BASE
        self.is_pinned = False
        self._needs: list[int] = []
        self._ended: list[int] = []
        self._graph: dict[int, list[int]] = {}
        self._limit = GRAPH_MAX

    def begin(self, seq: int, *, pinned: bool = False) -> None:
        """An event is played."""
        self.seq, self.is_pinned = seq, pinned

    def need(self, owner: int) -> None:
        """It could not be played without this one."""
        if owner != BASE:
            self._needs.append(owner)

    def ends(self, owner: int | None) -> None:
        """It ends what this one began, if any did: where that is kept, it has to be, too."""
        if owner == BASE:
            self.is_pinned = True
        elif owner is not None:
            self._ended.append(owner)

    def finish(self) -> None:
        """The event has been played."""
        seq, needs, ended = self.seq, self._needs, self._ended
        if needs or ended:
            self._needs, self._ended = [], []
            for owner in needs:
                self.tie(seq, owner)
            for owner in ended:
                self.tie(owner, seq)
        if self.is_pinned:
            self.keep(seq)

    def tie(self, seq: int, needed: int) -> None:
        """Where ``seq`` is kept, ``needed`` has to be, too."""
        kept = self.kept
        if needed == seq or needed in kept:
            return
        if seq in kept:
            self.keep(needed)
            return
        known = self._graph.get(seq)
        if known is None:
            self._graph[seq] = [needed]
        elif known[-1] != needed:
            known.append(needed)

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
            pending += graph.pop(seq, ())

    def settle(self, upto: int) -> None:
        """All in front of ``upto`` stays, and what does not is gone: nobody asks for it again."""
        self.kept = _Settled(upto)
        self._graph = {}
        self._limit = GRAPH_MAX

    @property
    def is_full(self) -> bool:
        """Whether it is time to look what can go."""
        return len(self._graph) >= self._limit

    def sweep(self, roots: Iterable[int]) -> None:
        """Forget what nothing is made of any more; keep all where that is still too much."""
        graph, reached = self._graph, set[int]()
        pending = [root for root in roots if root in graph]
        while pending:
            seq = pending.pop()
            if seq not in reached:
                reached.add(seq)
                pending += [needed for needed in graph[seq] if needed in graph]
        self._graph = {seq: needs for seq, needs in graph.items() if seq in reached}
        self._limit = max(GRAPH_MAX, 2 * len(self._graph))
        if len(self._graph) > GRAPH_MAX:
            for seq in list(self._graph):
                self.keep(seq)
            self._limit = GRAPH_MAX
