"""Which events of a journal are meant: block by block, by its columns as far as they tell.

A question may be about groups and tags, numbers and times, descriptors and paths, and whatever an
expression says. Numbers and times are looked up, tags decide for whole columns, and only what is
left is decoded.
"""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from itertools import compress

from journal.errors import MalformedEvent
from journal.events.core import InitModule
from journal.events.definition import Group
from journal.events.process import InstrumentedPart, ModulePart, Mount, ProcessStart, Seal
from journal.format.block import Block, BlockHeader, compute_tag_bitmap
from journal.format.frame import Frame
from journal.query.compiler import CompiledQuery
from journal.query.fields import DESCRIPTOR, GROUP, PATH, SEQ, TAG, TAGS, TIME
from journal.query.literals import JournalTimes, Moment, MomentBase
from journal.query.parser import And, Comparison, Expression, Or, parse
from journal.query.path_tracker import TRACKED_TAGS, PathTracker

PREAMBLE = frozenset(
    cls.tag for cls in (ProcessStart, ModulePart, InstrumentedPart, Mount, InitModule)
)
"""The tags of what says what ran: without them nobody knows what a journal is of."""

_NO, _YES, _TEST = 0, 1, 2
_BEYOND_RANGE = 1 << 64
_BOUNDS = ("==", "<", "<=", ">", ">=")
_TEST_MASK = bytes(value == _TEST for value in range(256))


@dataclass(frozen=True, slots=True)
class Query:
    """Which events are meant: those for which all that is given here holds.

    Of ``groups`` and ``tags``, of ``descriptors``, and of ``paths``, which are patterns as shells
    have them, any one; numbers are from ``start`` to before ``stop``, times from ``since`` to
    before ``until``. What is empty or None does not matter.
    """

    groups: frozenset[Group] = frozenset()
    tags: frozenset[int] = frozenset()
    start: int = 0
    stop: int | None = None
    since: Moment | int | None = None
    until: Moment | int | None = None
    descriptors: frozenset[int] = frozenset()
    paths: tuple[str, ...] = ()
    where: Expression | str | None = None

    @property
    def expression(self) -> Expression | None:
        """All but numbers and times, as an expression; None where it holds for all events.

        Raises ExpressionError.
        """
        kinds: list[Expression] = []
        if self.groups:
            names = tuple(sorted(group.value for group in self.groups))
            kinds.append(Comparison(GROUP, "in", names))
        if self.tags:
            kinds.append(Comparison(TAG, "in", tuple(sorted(self.tags))))
        parts = [_combine_any(kinds)] if kinds else []
        if self.descriptors:
            parts.append(Comparison(DESCRIPTOR, "in", tuple(sorted(self.descriptors))))
        if self.paths:
            parts.append(_combine_any([Comparison(PATH, "glob", (path,)) for path in self.paths]))
        if self.where is not None:
            parts.append(parse(self.where) if isinstance(self.where, str) else self.where)
        if len(parts) > 1:
            return And(tuple(parts))
        return parts[0] if parts else None


def _combine_any(parts: list[Expression]) -> Expression:
    return parts[0] if len(parts) == 1 else Or(tuple(parts))


def _raise(error: MalformedEvent) -> bool:
    raise error


class QueryFilter:
    """Lets through what a question means, or with ``keep`` off all else; sees blocks in order.

    With ``preamble`` what says what ran is let through always, and a Seal, which speaks of the
    journal's own bytes, never. ``malformed`` says whether an event is let through that would have
    to be looked into and cannot; by default the error is raised.
    """

    def __init__(
        self,
        query: Query,
        clock: JournalTimes,
        *,
        keep: bool = True,
        keep_preamble: bool = False,
        on_malformed: Callable[[MalformedEvent], bool] = _raise,
    ) -> None:
        tree, bounds = _extract_bounds(query.expression, clock)
        self.query = CompiledQuery(tree, clock, negated=not keep)
        self._start = max(query.start, bounds[SEQ][0])
        self._stop = min(_BEYOND_RANGE if query.stop is None else query.stop, bounds[SEQ][1])
        self._since = max(_resolve_time(query.since, clock, 0), bounds[TIME][0])
        self._until = min(_resolve_time(query.until, clock, _BEYOND_RANGE), bounds[TIME][1])
        self._tracker = PathTracker() if self.query.needs_paths else None
        self._on_malformed = on_malformed
        always = PREAMBLE if keep_preamble else frozenset()
        never = frozenset((Seal.tag,)) if keep_preamble else frozenset()
        self._inside = self._make_column(
            self.query.possible_tags, self.query.certain_tags, always, never
        )
        outside = frozenset() if keep else frozenset(TAGS)
        self._outside = self._make_column(outside, outside, always, never)
        followed = TRACKED_TAGS if self._tracker is not None else frozenset()
        self._inside_bits = _make_tag_bitmap(self._inside, followed)
        self._outside_bits = _make_tag_bitmap(self._outside, followed)

    def needs_block(self, header: BlockHeader, first_seq: int) -> bool:
        """Whether a block may have anything that is let through, or has to be seen."""
        bits = 0
        if self._may_be_inside(header, first_seq):
            bits |= self._inside_bits
        if not self._is_inside(header, first_seq):
            bits |= self._outside_bits
        return bool(header.tag_bitmap & bits)

    @property
    def tags(self) -> frozenset[int]:
        """The tags of what may be let through, or has to be seen, where numbers and times fit."""
        return self.query.possible_tags | (
            TRACKED_TAGS if self._tracker is not None else frozenset()
        )

    @property
    def start(self) -> int:
        """The number of the first event that has to be seen, where only what is inside is meant."""
        return 0 if self._tracker is not None else self._start

    def may_pass(self, tag: int) -> bool:
        """Whether an event of a tag may be let through."""
        return self._inside[tag] != _NO or self._outside[tag] != _NO

    def is_past_end(self, first_seq: int) -> bool:
        """Whether events from this number on are behind the last that can be meant."""
        return first_seq >= self._stop

    def compute_mask(self, block: Block) -> bytes:
        """One byte for each event of a block: whether it is let through."""
        if self._is_inside(block.header, block.first_seq):
            found = block.tags.translate(self._inside)
        else:
            begin, end = self._find_range(block)
            inside = block.tags[begin:end].translate(self._inside)
            before = block.tags[:begin].translate(self._outside)
            found = before + inside + block.tags[end:].translate(self._outside)
        if self._tracker is not None or _TEST in found:
            return self._test_events(block, bytearray(found))
        return found

    def passes(self, frame: Frame) -> bool:
        """Whether an event is let through, for who has events and no blocks."""
        seq, tag, payload, time, _ = frame
        inside = self._start <= seq < self._stop and self._since <= time < self._until
        found = (self._inside if inside else self._outside)[tag]
        try:
            if found == _TEST:
                found = self.query.matches(seq, time, tag, payload, self._tracker)
            if self._tracker is not None:
                self.query.track(tag, payload, self._tracker)
        except MalformedEvent as error:
            return self._on_malformed(error) if found == _TEST else bool(found)
        return bool(found)

    def _test_events(self, block: Block, mask: bytearray) -> bytes:
        """Decide what has to be looked at."""
        predicate, names = self.query, self._tracker
        picks = list(compress(range(block.count), mask.translate(_TEST_MASK)))
        if names is not None:
            followed = block.select(TRACKED_TAGS)
            picks = sorted({*picks, *followed})
        if not picks:
            return bytes(mask)
        rows = zip(picks, block.times_at(picks), block.rows(picks), strict=True)
        for at, time, (seq, tag, payload) in rows:
            try:
                if mask[at] == _TEST:
                    mask[at] = predicate.matches(seq, time, tag, payload, names)
                if names is not None:
                    predicate.track(tag, payload, names)
            except MalformedEvent as error:
                error.offset = block.offset
                lenient = self._on_malformed(error)
                mask[at] = lenient if mask[at] == _TEST else mask[at]
        return bytes(mask)

    def _find_range(self, block: Block) -> tuple[int, int]:
        """From which index to before which the events are inside of the numbers and times."""
        seqs, times = block.seqs, block.times
        begin = max(bisect_left(seqs, self._start), bisect_left(times, self._since))
        end = min(bisect_left(seqs, self._stop), bisect_left(times, self._until))
        return begin, max(begin, end)

    def _may_be_inside(self, header: BlockHeader, first_seq: int) -> bool:
        ends_early = first_seq + header.frame_count <= self._start and not header.has_seqs
        too_early = ends_early or header.time_last < self._since
        return not too_early and first_seq < self._stop and header.time_first < self._until

    def _is_inside(self, header: BlockHeader, first_seq: int) -> bool:
        if first_seq < self._start or header.time_first < self._since:
            return False
        last = first_seq + header.frame_count - 1
        if self._stop < _BEYOND_RANGE and (header.has_seqs or last >= self._stop):
            return False
        return header.time_last < self._until

    @staticmethod
    def _make_column(
        tags: frozenset[int],
        sure: frozenset[int],
        always: frozenset[int],
        never: frozenset[int],
    ) -> bytes:
        found = bytearray(256)
        for tag in TAGS:
            found[tag] = _YES if tag in sure else _TEST if tag in tags else _NO
            if tag in always:
                found[tag] = _YES
            if tag in never:
                found[tag] = _NO
        return bytes(found)


def _extract_bounds(
    tree: Expression | None, clock: JournalTimes
) -> tuple[Expression | None, dict[str, tuple[int, int]]]:
    """Take out of a tree what bounds numbers and times: they are looked up, not asked for.

    Gives the rest of it, and of each from which to before which it may be.
    """
    bounds = {SEQ: (0, _BEYOND_RANGE), TIME: (0, _BEYOND_RANGE)}
    rest = []
    for part in tree.parts if isinstance(tree, And) else () if tree is None else (tree,):
        value = part.values[0] if isinstance(part, Comparison) and part.name in bounds else None
        if isinstance(value, Moment):
            value = clock.resolve(value)
        # what bounds nothing is asked for
        if (
            not (isinstance(part, Comparison) and isinstance(value, int))
            or part.operator not in _BOUNDS
        ):
            rest.append(part)
        else:
            low, high = bounds[part.name]
            start = {"==": value, ">=": value, ">": value + 1}.get(part.operator, 0)
            stop = {"==": value + 1, "<=": value + 1, "<": value}.get(part.operator, _BEYOND_RANGE)
            bounds[part.name] = (max(low, start), min(high, stop))
    if len(rest) > 1:
        return And(tuple(rest)), bounds
    return (rest[0] if rest else None), bounds


def _make_tag_bitmap(column: bytes, followed: frozenset[int]) -> int:
    return compute_tag_bitmap({tag for tag in TAGS if column[tag] != _NO} | followed)


def _resolve_time(moment: Moment | int | None, clock: JournalTimes, default: int) -> int:
    if moment is None:
        return default
    return clock.resolve(moment if isinstance(moment, Moment) else Moment(MomentBase.EPOCH, moment))
