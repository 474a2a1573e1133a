"""Compiler of a query: the test of each tag, or a constant where the tag alone decides.

The tags of a block show which of its events need a test, so that most events are never decoded.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from journal.errors import MalformedEvent
from journal.events import APPLICATION_TAGS, codec
from journal.events.definition import Event
from journal.events.tag_sets import find_group
from journal.query import comparison
from journal.query.comparison import ValueTest
from journal.query.fields import (
    BUILT_IN,
    COMMON_FIELDS,
    DESCRIPTOR,
    GROUP,
    GROUPS,
    KIND,
    OF_SOCKET,
    PATH,
    SEQ,
    SIZE,
    TAG,
    TAGS,
    TIME,
    FieldType,
    TypeCategory,
    Vocabulary,
    find_common_type,
)
from journal.query.literals import JournalTimes, Literal
from journal.query.parser import And, BooleanField, Comparison, Expression, Not, Or
from journal.query.path_tracker import (
    PATH_TAGS,
    SOCKET_TAGS,
    SOCKET_TESTED_TAGS,
    TRACKED_TAGS,
    PathTracker,
    descriptor_fields,
)

EventPredicate = Callable[["EventView"], bool]

NO_TIMES = JournalTimes(0, 0)


class EventView(NamedTuple):
    """Event as a query sees it. The fields with defaults are set only if a test needs them."""

    seq: int
    time: int
    size: int
    values: tuple[Any, ...] = ()
    paths: tuple[str, ...] = ()
    of_socket: bool = False


class EventTest(NamedTuple):
    """Test of the events of one tag."""

    matches: EventPredicate
    needs_values: bool = False
    needs_paths: bool = False
    needs_sockets: bool = False

    @property
    def needs_tracker(self) -> bool:
        """Return whether the test needs what earlier events say about descriptors."""
        return self.needs_paths or self.needs_sockets


TagTest = bool | EventTest
"""Test of the events of one tag; True if all of them match, False if none matches."""


class CompiledQuery:
    """Compiled query. ``tag_tests`` has the test of each tag.

    Events of ``possible_tags`` may match. All events of ``certain_tags`` match.
    """

    def __init__(
        self,
        expression: Expression | None,
        times: JournalTimes = NO_TIMES,
        *,
        negated: bool = False,
        vocabulary: Vocabulary = BUILT_IN,
    ) -> None:
        self._kinds = vocabulary.kinds
        self._negated = negated
        self.tag_tests: dict[int, TagTest] = {}
        for tag in TAGS:
            test: TagTest = (
                True if expression is None else _compile(expression, tag, times, vocabulary)
            )
            self.tag_tests[tag] = _negate(test) if negated else test
        self.possible_tags = frozenset(
            tag for tag, test in self.tag_tests.items() if test is not False
        )
        self.certain_tags = frozenset(tag for tag, test in self.tag_tests.items() if test is True)
        tests = [test for test in self.tag_tests.values() if isinstance(test, EventTest)]
        self.needs_tracker = any(test.needs_tracker for test in tests)
        self._unpackers: dict[int, Callable[..., tuple[Any, ...]]] = {}

    @property
    def tested_tags(self) -> frozenset[int]:
        """Tags whose events are tested one by one."""
        return self.possible_tags - self.certain_tags

    def matches(
        self, seq: int, time: int, tag: int, payload: bytes, tracker: PathTracker | None
    ) -> bool:
        """Return whether an event matches. Raises MalformedEvent if a test needs its values and
        cannot decode them.

        ``tracker`` has tracked all earlier events if a test needs it.
        """
        test = self.tag_tests[tag]
        if isinstance(test, bool):
            return test
        values: tuple[Any, ...] = ()
        paths: tuple[str, ...] = ()
        of_socket = False
        if test.needs_values:
            try:
                values = self.unpack(tag, payload)
            except MalformedEvent:
                if tag not in APPLICATION_TAGS:
                    raise
                return self._negated  # Without its fields, the event matches no test of them.
            if test.needs_paths and tracker is not None:
                paths = tracker.find_paths(tag, values)
            if test.needs_sockets and tracker is not None:
                of_socket = tracker.is_of_socket(tag, values)
        return test.matches(EventView(seq, time, len(payload), values, paths, of_socket))

    def unpack(self, tag: int, payload: bytes, offset: int = 0) -> tuple[Any, ...]:
        """Return the values of an event. Raises MalformedEvent."""
        unpack = self._unpackers.get(tag)
        if unpack is None:
            unpack = self._unpackers[tag] = codec.make_unpacker(self._kinds[tag])
        return unpack(payload, offset)

    def track(self, tag: int, payload: bytes, tracker: PathTracker) -> None:
        """Update ``tracker`` with an event. Raises MalformedEvent."""
        if tag in TRACKED_TAGS:
            tracker.track(tag, self.unpack(tag, payload))


def _compile(
    expression: Expression, tag: int, times: JournalTimes, vocabulary: Vocabulary
) -> TagTest:
    if isinstance(expression, Not):
        return _negate(_compile(expression.part, tag, times, vocabulary))
    if isinstance(expression, And):
        return _combine_all([_compile(part, tag, times, vocabulary) for part in expression.parts])
    if isinstance(expression, Or):
        parts = [_negate(_compile(part, tag, times, vocabulary)) for part in expression.parts]
        return _negate(_combine_all(parts))
    if isinstance(expression, BooleanField):
        return _compile_comparison(
            Comparison(expression.name, "==", (True,)), tag, times, vocabulary
        )
    return _compile_comparison(expression, tag, times, vocabulary)


def _negate(test: TagTest) -> TagTest:
    if isinstance(test, bool):
        return not test
    matches = test.matches
    return test._replace(matches=lambda event: not matches(event))


def _combine_all(parts: Sequence[TagTest]) -> TagTest:
    if any(part is False for part in parts):
        return False
    # The cheapest tests come first.
    tests = sorted(
        (part for part in parts if isinstance(part, EventTest)),
        key=lambda test: (test.needs_tracker, test.needs_values),
    )
    if not tests:
        return True
    if len(tests) == 1:
        return tests[0]
    matchers = [test.matches for test in tests]
    return EventTest(
        lambda event: all(matches(event) for matches in matchers),
        any(test.needs_values for test in tests),
        any(test.needs_paths for test in tests),
        any(test.needs_sockets for test in tests),
    )


def _compile_comparison(
    node: Comparison, tag: int, times: JournalTimes, vocabulary: Vocabulary
) -> TagTest:
    name = node.name
    if name in COMMON_FIELDS:
        field_type = find_common_type(name)
        values = node.values
        if name == GROUP:
            values = tuple(_resolve_group_alias(value) for value in values)
        check = comparison.make_test(field_type, node.operator, values, times)
        return _compile_common_field(name, node, check, tag, vocabulary)
    field = vocabulary.fields[name.removeprefix(".")].get(tag)
    if field is None:
        return False
    field_type = FieldType(field.category, field.is_optional, field.members)
    if not comparison.is_comparable(field_type, node.operator, node.values):
        return False
    get = field.get
    if not field.is_many:
        check = comparison.make_test(field_type, node.operator, node.values, times)
        return EventTest(lambda event: check(get(event.values)), needs_values=True)
    any_of = _make_any_test(field_type, node, times)
    return EventTest(lambda event: any_of(get(event.values)), needs_values=True)


def _make_any_test(field_type: FieldType, node: Comparison, times: JournalTimes) -> ValueTest:
    """Return a test of several values: one value must match, and for ``!=`` all values."""
    if node.operator == "!=":
        check = comparison.make_test(field_type, "==", node.values, times)
        return lambda values: bool(values) and not any(map(check, values))
    check = comparison.make_test(field_type, node.operator, node.values, times)
    return lambda values: any(map(check, values))


def _compile_common_field(
    name: str, node: Comparison, check: ValueTest, tag: int, vocabulary: Vocabulary
) -> TagTest:
    cls = vocabulary.kinds.get(tag)
    if name in (TAG, KIND, GROUP):
        group = find_group(tag)
        names = {KIND: cls.__name__ if cls else "", GROUP: group.value if group else ""}
        return check(names.get(name, tag))
    if name == SEQ:
        return EventTest(lambda event: check(event.seq))
    if name == TIME:
        return EventTest(lambda event: check(event.time))
    if name == SIZE:
        return EventTest(lambda event: check(event.size))
    if name == OF_SOCKET:
        return _compile_of_socket(check, tag)
    if cls is None or tag not in PATH_TAGS:
        return False
    if name == PATH:
        any_path = _make_any_test(FieldType(TypeCategory.TEXT), node, NO_TIMES)
        return EventTest(lambda event: any_path(event.paths), needs_values=True, needs_paths=True)
    assert name == DESCRIPTOR
    return _compile_descriptors(cls, node)


def _compile_of_socket(check: ValueTest, tag: int) -> TagTest:
    if tag not in SOCKET_TESTED_TAGS:
        return check(tag in SOCKET_TAGS)
    return EventTest(lambda event: check(event.of_socket), needs_values=True, needs_sockets=True)


def _compile_descriptors(cls: type[Event], node: Comparison) -> TagTest:
    indices = [cls.names.index(name) for name in descriptor_fields(cls)]
    if not indices:
        return False
    any_number = _make_any_test(FieldType(TypeCategory.NUMBER), node, NO_TIMES)
    return EventTest(
        lambda event: any_number([event.values[index] for index in indices]), needs_values=True
    )


def _resolve_group_alias(value: Literal) -> Literal:
    """Return the canonical name of a group."""
    return GROUPS[value].value if isinstance(value, str) and value in GROUPS else value
