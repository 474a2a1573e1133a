"""Selection of the events that match a query, block by block.

A query combines groups and tags, ranges of sequence numbers and times, descriptors, paths, and an
expression. Ranges are found by binary search, tags decide for whole columns, and only the remaining
events are decoded.
"""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import compress

from journal._arguments import check_choice, check_each, check_int, check_optional, check_type
from journal.errors import MalformedEvent
from journal.events import tag_sets
from journal.events.application import ApplicationKind
from journal.events.core import InitModule
from journal.events.definition import Group
from journal.events.process import Seal
from journal.format.block import Block, BlockHeader, compute_tag_bitmap
from journal.format.frame import Frame
from journal.query.compiler import CompiledQuery
from journal.query.fields import (
    BUILT_IN,
    DESCRIPTOR,
    GROUP,
    OF_SOCKET,
    PATH,
    SEQ,
    TAG,
    TAGS,
    TIME,
    Vocabulary,
)
from journal.query.literals import JournalTimes, Moment, MomentBase
from journal.query.parser import (
    And,
    Comparison,
    Expression,
    Or,
    check_expression,
    check_meaning,
    parse,
)
from journal.query.path_tracker import TRACKED_TAGS, PathTracker

PREAMBLE = (tag_sets.PREAMBLE & tag_sets.tags_in_group(Group.CORE)) | {
    InitModule.tag,
    ApplicationKind.tag,
}
"""Tags of the events that identify the program, and of declarations of applications."""

_NO, _YES, _TEST = 0, 1, 2
_BEYOND_RANGE = 1 << 64
_BOUNDS = ("==", "<", "<=", ">", ">=")
_TEST_MASK = bytes(value == _TEST for value in range(256))


@dataclass(frozen=True, slots=True)
class Query:
    """Conditions that an event must meet, all of them.

    The event's group or tag must be in ``groups`` or ``tags``. The group of sockets also has the
    events of their descriptors, the bytes they received, and the results of the host. A descriptor
    of the event must be in ``descriptors``, and a path must match one of the globs in ``paths``.
    Ranges are half-open: sequence numbers from ``start`` to before ``stop``, times from ``since``
    to before ``until``.
    Times are moments, or µs since the epoch. An empty or None condition always holds.
    ``vocabulary`` has the kinds and fields that ``where`` can name.
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
    vocabulary: Vocabulary = field(default=BUILT_IN, compare=False, repr=False)

    def __post_init__(self) -> None:
        groups = check_each("groups", self.groups, lambda name, one: check_choice(name, one, Group))
        tags = check_each("tags", self.tags, lambda name, tag: check_int(name, tag, 0, 255))
        descriptors = check_each("descriptors", self.descriptors, check_int)
        object.__setattr__(self, "groups", frozenset(groups))
        object.__setattr__(self, "tags", frozenset(tags))
        object.__setattr__(self, "descriptors", frozenset(descriptors))
        paths = check_each("paths", self.paths, lambda name, path: check_type(name, path, str))
        object.__setattr__(self, "paths", tuple(paths))
        check_int("start", self.start, 0, _BEYOND_RANGE)
        check_optional("stop", self.stop, check_int, 0, _BEYOND_RANGE)
        for name, moment in (("since", self.since), ("until", self.until)):
            if not isinstance(moment, Moment):
                check_optional(name, moment, check_int, -_BEYOND_RANGE, _BEYOND_RANGE)
        if not isinstance(self.where, str):
            check_optional("where", self.where, check_expression)
        check_type("vocabulary", self.vocabulary, Vocabulary)

    @property
    def expression(self) -> Expression | None:
        """Expression of all conditions except the ranges; None if there are none. Raise
        ExpressionError.
        """
        kinds: list[Expression] = []
        if self.groups:
            names = tuple(sorted(group.value for group in self.groups))
            kinds.append(Comparison(GROUP, "in", names))
        if Group.SOCKETS in self.groups:  # Their results and their descriptors belong to them.
            kinds.append(Comparison(OF_SOCKET, "==", (True,)))
        if self.tags:
            kinds.append(Comparison(TAG, "in", tuple(sorted(self.tags))))
        parts = [_combine_any(kinds)] if kinds else []
        if self.descriptors:
            parts.append(Comparison(DESCRIPTOR, "in", tuple(sorted(self.descriptors))))
        if self.paths:
            parts.append(_combine_any([Comparison(PATH, "glob", (path,)) for path in self.paths]))
        if self.where is not None:
            parts.append(
                parse(self.where, self.vocabulary)
                if isinstance(self.where, str)
                else check_meaning(self.where, self.vocabulary)
            )
        if len(parts) > 1:
            return And(tuple(parts))
        return parts[0] if parts else None


def _combine_any(parts: list[Expression]) -> Expression:
    return parts[0] if len(parts) == 1 else Or(tuple(parts))


def _raise(error: MalformedEvent) -> bool:
    raise error


class QueryFilter:
    """Filter of the events that match a query, or with ``keep`` off, of all other events.

    Blocks come in order.

    With ``keep_preamble``, the events that identify the program always pass, and a Seal, which
    describes the bytes of the original journal, never passes. ``on_malformed`` returns whether an
    event passes that cannot be decoded for a test; by default, its error is raised.
    """

    def __init__(
        self,
        query: Query,
        times: JournalTimes,
        *,
        keep: bool = True,
        keep_preamble: bool = False,
        on_malformed: Callable[[MalformedEvent], bool] = _raise,
    ) -> None:
        expression, bounds = _extract_bounds(query.expression, times)
        self.query = CompiledQuery(expression, times, negated=not keep, vocabulary=query.vocabulary)
        self._start = max(query.start, bounds[SEQ][0])
        self._stop = min(_BEYOND_RANGE if query.stop is None else query.stop, bounds[SEQ][1])
        self._since = max(_resolve_time(query.since, times, 0), bounds[TIME][0])
        self._until = min(_resolve_time(query.until, times, _BEYOND_RANGE), bounds[TIME][1])
        self._tracker = PathTracker() if self.query.needs_tracker else None
        self._on_malformed = on_malformed
        always = PREAMBLE if keep_preamble else frozenset()
        never = frozenset((Seal.tag,)) if keep_preamble else frozenset()
        self._inside = self._make_column(
            self.query.possible_tags, self.query.certain_tags, always, never
        )
        outside = frozenset() if keep else frozenset(TAGS)
        self._outside = self._make_column(outside, outside, always, never)
        tracked_tags = TRACKED_TAGS if self._tracker is not None else frozenset()
        self._inside_bits = _make_tag_bitmap(self._inside, tracked_tags)
        self._outside_bits = _make_tag_bitmap(self._outside, tracked_tags)

    def needs_block(self, header: BlockHeader, first_seq: int) -> bool:
        """Return whether a block may have events that pass or must be tracked."""
        bits = 0
        if self._may_be_inside(header, first_seq):
            bits |= self._inside_bits
        if not self._is_inside(header, first_seq):
            bits |= self._outside_bits
        return bool(header.tag_bitmap & bits)

    @property
    def tags(self) -> frozenset[int]:
        """Tags of the events that may pass or must be tracked, within the ranges."""
        return self.query.possible_tags | (
            TRACKED_TAGS if self._tracker is not None else frozenset()
        )

    @property
    def start(self) -> int:
        """Sequence number of the first event that must be read, if no event outside the ranges
        passes.
        """
        return 0 if self._tracker is not None else self._start

    def may_pass(self, tag: int) -> bool:
        """Return whether an event of a tag may pass."""
        return self._inside[tag] != _NO or self._outside[tag] != _NO

    def is_past_end(self, first_seq: int) -> bool:
        """Return whether all events from ``first_seq`` on are past the end of the range."""
        return first_seq >= self._stop

    def compute_mask(self, block: Block) -> bytes:
        """Return one byte per event of a block: 1 if the event passes."""
        if self._is_inside(block.header, block.first_seq):
            mask = block.tags.translate(self._inside)
        else:
            start, stop = self._find_range(block)
            inside = block.tags[start:stop].translate(self._inside)
            before = block.tags[:start].translate(self._outside)
            mask = before + inside + block.tags[stop:].translate(self._outside)
        if self._tracker is not None or _TEST in mask:
            return self._test_events(block, bytearray(mask))
        return mask

    def passes(self, frame: Frame) -> bool:
        """Return whether a single event passes. Events come in order."""
        seq, tag, payload, time, _ = frame
        is_inside = self._start <= seq < self._stop and self._since <= time < self._until
        decision = (self._inside if is_inside else self._outside)[tag]
        try:
            if decision == _TEST:
                decision = self.query.matches(seq, time, tag, payload, self._tracker)
            if self._tracker is not None:
                self.query.track(tag, payload, self._tracker)
        except MalformedEvent as error:
            return self._on_malformed(error) if decision == _TEST else bool(decision)
        return bool(decision)

    def _test_events(self, block: Block, mask: bytearray) -> bytes:
        """Test the events that the tags do not decide, and return the complete mask."""
        query, tracker = self.query, self._tracker
        indices = list(compress(range(block.count), mask.translate(_TEST_MASK)))
        if tracker is not None:
            indices = sorted({*indices, *block.select(TRACKED_TAGS)})
        if not indices:
            return bytes(mask)
        rows = zip(indices, block.times_at(indices), block.rows(indices), strict=True)
        for index, time, (seq, tag, payload) in rows:
            try:
                if mask[index] == _TEST:
                    mask[index] = query.matches(seq, time, tag, payload, tracker)
                if tracker is not None:
                    query.track(tag, payload, tracker)
            except MalformedEvent as error:
                error.offset = block.offset
                passes = self._on_malformed(error)
                mask[index] = passes if mask[index] == _TEST else mask[index]
        return bytes(mask)

    def _find_range(self, block: Block) -> tuple[int, int]:
        """Return the range of a block's indices that is inside the ranges of the query."""
        seqs, times = block.seqs, block.times
        start = max(bisect_left(seqs, self._start), bisect_left(times, self._since))
        stop = min(bisect_left(seqs, self._stop), bisect_left(times, self._until))
        return start, max(start, stop)

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
        certain: frozenset[int],
        always: frozenset[int],
        never: frozenset[int],
    ) -> bytes:
        column = bytearray(256)
        for tag in TAGS:
            column[tag] = _YES if tag in certain else _TEST if tag in tags else _NO
            if tag in always:
                column[tag] = _YES
            if tag in never:
                column[tag] = _NO
        return bytes(column)


def _extract_bounds(
    expression: Expression | None, times: JournalTimes
) -> tuple[Expression | None, dict[str, tuple[int, int]]]:
    """Split an expression into the bounds of sequence numbers and times, and the rest.

    Return the rest, and the half-open range of each. Bounds are found by binary search, not tested.
    """
    bounds = {SEQ: (0, _BEYOND_RANGE), TIME: (0, _BEYOND_RANGE)}
    rest = []
    for part in (
        expression.parts
        if isinstance(expression, And)
        else ()
        if expression is None
        else (expression,)
    ):
        value = part.values[0] if isinstance(part, Comparison) and part.name in bounds else None
        if isinstance(value, Moment):
            value = times.resolve(value)
        # A condition that is not a bound remains in the rest.
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


def _make_tag_bitmap(column: bytes, tracked_tags: frozenset[int]) -> int:
    return compute_tag_bitmap({tag for tag in TAGS if column[tag] != _NO} | tracked_tags)


def _resolve_time(moment: Moment | int | None, times: JournalTimes, default: int) -> int:
    if moment is None:
        return default
    return times.resolve(moment if isinstance(moment, Moment) else Moment(MomentBase.EPOCH, moment))
