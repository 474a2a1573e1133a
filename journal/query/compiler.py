"""A question about events as functions: for each tag what is known without looking, or what to ask.

What only the tag decides is decided once. So the tags of a block tell which of its events have to
be looked at, and the events of most kinds are never decoded.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from journal.events import BY_TAG, codec
from journal.events.definition import Event
from journal.query import comparison, fields
from journal.query.comparison import ValueTest
from journal.query.fields import (
    COMMON_FIELDS,
    DESCRIPTOR,
    FIELDS,
    GROUP,
    GROUPS,
    KIND,
    PATH,
    SEQ,
    SIZE,
    TAG,
    TAGS,
    TIME,
    FieldType,
    TypeCategory,
)
from journal.query.literals import JournalTimes, Literal
from journal.query.parser import And, BooleanField, Comparison, Expression, Not, Or
from journal.query.path_tracker import PATH_TAGS, TRACKED_TAGS, PathTracker, descriptor_fields

EventPredicate = Callable[["EventView"], bool]

NO_TIMES = JournalTimes(0, 0)


class EventView(NamedTuple):
    """An event as a question sees it: ``values`` and ``paths`` only where it asks for them."""

    seq: int
    time: int
    size: int
    values: tuple[Any, ...] = ()
    paths: tuple[str, ...] = ()


class EventTest(NamedTuple):
    """What is to be asked of each event of a kind."""

    matches: EventPredicate
    needs_values: bool = False
    needs_paths: bool = False


TagTest = bool | EventTest
"""What is known of all events of a kind, or what is to be asked of each."""


class CompiledQuery:
    """A question, made ready. ``verdicts`` has what is known for each tag.

    ``tags`` are those of which an event may be meant, ``sure`` those of which all are.
    """

    def __init__(
        self, tree: Expression | None, clock: JournalTimes = NO_TIMES, *, negated: bool = False
    ) -> None:
        self.tag_tests: dict[int, TagTest] = {}
        for tag in TAGS:
            found: TagTest = True if tree is None else _compile(tree, tag, clock)
            self.tag_tests[tag] = _negate(found) if negated else found
        self.possible_tags = frozenset(
            tag for tag, found in self.tag_tests.items() if found is not False
        )
        self.certain_tags = frozenset(tag for tag, found in self.tag_tests.items() if found is True)
        tests = [found for found in self.tag_tests.values() if isinstance(found, EventTest)]
        self.needs_paths = any(test.needs_paths for test in tests)
        self._unpackers: dict[int, Callable[..., tuple[Any, ...]]] = {}

    @property
    def tested_tags(self) -> frozenset[int]:
        """The tags of events that have to be looked at one by one."""
        return self.possible_tags - self.certain_tags

    def matches(
        self, seq: int, time: int, tag: int, payload: bytes, tracker: PathTracker | None
    ) -> bool:
        """Whether an event is meant; raises MalformedEvent if it has to be looked into and cannot.

        ``names`` has seen all events in front of it, where the question is about paths.
        """
        found = self.tag_tests[tag]
        if isinstance(found, bool):
            return found
        values: tuple[Any, ...] = ()
        paths: tuple[str, ...] = ()
        if found.needs_values:
            values = self.unpack(tag, payload)
            if found.needs_paths and tracker is not None:
                paths = tracker.find_paths(tag, values)
        return found.matches(EventView(seq, time, len(payload), values, paths))

    def unpack(self, tag: int, payload: bytes, offset: int = 0) -> tuple[Any, ...]:
        """The values of an event; raises MalformedEvent."""
        unpack = self._unpackers.get(tag)
        if unpack is None:
            unpack = self._unpackers[tag] = codec.make_unpacker(BY_TAG[tag])
        return unpack(payload, offset)

    def track(self, tag: int, payload: bytes, tracker: PathTracker) -> None:
        """Let ``names`` know of an event; raises MalformedEvent."""
        if tag in TRACKED_TAGS:
            tracker.track(tag, self.unpack(tag, payload))


def _compile(tree: Expression, tag: int, clock: JournalTimes) -> TagTest:
    if isinstance(tree, Not):
        return _negate(_compile(tree.part, tag, clock))
    if isinstance(tree, And):
        return _combine_all([_compile(part, tag, clock) for part in tree.parts])
    if isinstance(tree, Or):
        parts = [_negate(_compile(part, tag, clock)) for part in tree.parts]
        return _negate(_combine_all(parts))
    if isinstance(tree, BooleanField):
        return _compile_comparison(Comparison(tree.name, "==", (True,)), tag, clock)
    return _compile_comparison(tree, tag, clock)


def _negate(verdict: TagTest) -> TagTest:
    if isinstance(verdict, bool):
        return not verdict
    holds = verdict.matches
    return verdict._replace(matches=lambda seen: not holds(seen))


def _combine_all(parts: Sequence[TagTest]) -> TagTest:
    if any(part is False for part in parts):
        return False
    # what needs less is asked first
    tests = sorted(
        (part for part in parts if isinstance(part, EventTest)),
        key=lambda test: (test.needs_paths, test.needs_values),
    )
    if not tests:
        return True
    if len(tests) == 1:
        return tests[0]
    answers = [test.matches for test in tests]
    return EventTest(
        lambda seen: all(holds(seen) for holds in answers),
        any(test.needs_values for test in tests),
        any(test.needs_paths for test in tests),
    )


def _compile_comparison(tree: Comparison, tag: int, clock: JournalTimes) -> TagTest:
    name = tree.name
    if name in COMMON_FIELDS:
        (sort,) = fields.find_types(name)
        values = tree.values
        if name == GROUP:
            values = tuple(_resolve_group_alias(value) for value in values)
        check = comparison.make_test(sort, tree.operator, values, clock)
        return _compile_common_field(name, tree, check, tag)
    operand = FIELDS[name.removeprefix(".")].get(tag)
    if operand is None:
        return False
    sort = FieldType(operand.category, operand.is_optional, operand.members)
    if not comparison.is_comparable(sort, tree.operator, tree.values):
        return False
    get = operand.get
    if not operand.is_many:
        check = comparison.make_test(sort, tree.operator, tree.values, clock)
        return EventTest(lambda seen: check(get(seen.values)), needs_values=True)
    any_of = _make_any_test(sort, tree, clock)
    return EventTest(lambda seen: any_of(get(seen.values)), needs_values=True)


def _make_any_test(sort: FieldType, tree: Comparison, clock: JournalTimes) -> ValueTest:
    """A comparison with several values: any of them; unlike is what none of them is like."""
    if tree.operator == "!=":
        check = comparison.make_test(sort, "==", tree.values, clock)
        return lambda values: bool(values) and not any(map(check, values))
    check = comparison.make_test(sort, tree.operator, tree.values, clock)
    return lambda values: any(map(check, values))


def _compile_common_field(name: str, tree: Comparison, check: ValueTest, tag: int) -> TagTest:
    cls = BY_TAG.get(tag)
    if name == TAG:
        return check(tag)
    if name == KIND:
        return check(cls.__name__ if cls else "")
    if name == GROUP:
        return check(cls.group.value if cls else "")
    if name == SEQ:
        return EventTest(lambda seen: check(seen.seq))
    if name == TIME:
        return EventTest(lambda seen: check(seen.time))
    if name == SIZE:
        return EventTest(lambda seen: check(seen.size))
    if cls is None or tag not in PATH_TAGS:
        return False
    if name == PATH:
        any_path = _make_any_test(FieldType(TypeCategory.TEXT), tree, NO_TIMES)
        return EventTest(lambda seen: any_path(seen.paths), needs_values=True, needs_paths=True)
    assert name == DESCRIPTOR
    return _compile_descriptors(cls, tree)


def _compile_descriptors(cls: type[Event], tree: Comparison) -> TagTest:
    places = [cls.names.index(name) for name in descriptor_fields(cls)]
    if not places:
        return False
    any_number = _make_any_test(FieldType(TypeCategory.NUMBER), tree, NO_TIMES)
    return EventTest(
        lambda seen: any_number([seen.values[place] for place in places]), needs_values=True
    )


def _resolve_group_alias(value: Literal) -> Literal:
    """A group by the name that we have for it."""
    return GROUPS[value].value if isinstance(value, str) and value in GROUPS else value
