"""A question about events as functions: for each tag what is known without looking, or what to ask.

What only the tag decides is decided once. So the tags of a block tell which of its events have to
be looked at, and the events of most kinds are never decoded.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from journal.events import BY_TAG, codec
from journal.events.definition import Event
from journal.query import comparison as comparing
from journal.query import fields as operands
from journal.query.comparison import Check
from journal.query.fields import (
    DESCRIPTOR,
    EVERY,
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
    Kind,
    Sort,
)
from journal.query.literals import Clock, Literal
from journal.query.parser import And, Compare, Not, Or, Tree, Truth
from journal.query.path_tracker import FOLLOWED, NAMING, Names, descriptor_fields

Answer = Callable[["Seen"], bool]

NO_CLOCK = Clock(0, 0)


class Seen(NamedTuple):
    """An event as a question sees it: ``values`` and ``paths`` only where it asks for them."""

    seq: int
    time: int
    size: int
    values: tuple[Any, ...] = ()
    paths: tuple[str, ...] = ()


class Test(NamedTuple):
    """What is to be asked of each event of a kind."""

    holds: Answer
    needs_values: bool = False
    needs_paths: bool = False


Verdict = bool | Test
"""What is known of all events of a kind, or what is to be asked of each."""


class Predicate:
    """A question, made ready. ``verdicts`` has what is known for each tag.

    ``tags`` are those of which an event may be meant, ``sure`` those of which all are.
    """

    def __init__(
        self, tree: Tree | None, clock: Clock = NO_CLOCK, *, negated: bool = False
    ) -> None:
        self.verdicts: dict[int, Verdict] = {}
        for tag in TAGS:
            found: Verdict = True if tree is None else _folded(tree, tag, clock)
            self.verdicts[tag] = _negated(found) if negated else found
        self.tags = frozenset(tag for tag, found in self.verdicts.items() if found is not False)
        self.sure = frozenset(tag for tag, found in self.verdicts.items() if found is True)
        tests = [found for found in self.verdicts.values() if isinstance(found, Test)]
        self.needs_paths = any(test.needs_paths for test in tests)
        self._unpackers: dict[int, Callable[..., tuple[Any, ...]]] = {}

    @property
    def asked(self) -> frozenset[int]:
        """The tags of events that have to be looked at one by one."""
        return self.tags - self.sure

    def holds(self, seq: int, time: int, tag: int, payload: bytes, names: Names | None) -> bool:
        """Whether an event is meant; raises MalformedEvent if it has to be looked into and cannot.

        ``names`` has seen all events in front of it, where the question is about paths.
        """
        found = self.verdicts[tag]
        if isinstance(found, bool):
            return found
        values: tuple[Any, ...] = ()
        paths: tuple[str, ...] = ()
        if found.needs_values:
            values = self.unpacked(tag, payload)
            if found.needs_paths and names is not None:
                paths = names.of(tag, values)
        return found.holds(Seen(seq, time, len(payload), values, paths))

    def unpacked(self, tag: int, payload: bytes, offset: int = 0) -> tuple[Any, ...]:
        """The values of an event; raises MalformedEvent."""
        unpack = self._unpackers.get(tag)
        if unpack is None:
            unpack = self._unpackers[tag] = codec.unpacker(BY_TAG[tag])
        return unpack(payload, offset)

    def follow(self, tag: int, payload: bytes, names: Names) -> None:
        """Let ``names`` know of an event; raises MalformedEvent."""
        if tag in FOLLOWED:
            names.follow(tag, self.unpacked(tag, payload))


def _folded(tree: Tree, tag: int, clock: Clock) -> Verdict:
    if isinstance(tree, Not):
        return _negated(_folded(tree.part, tag, clock))
    if isinstance(tree, And):
        return _all([_folded(part, tag, clock) for part in tree.parts])
    if isinstance(tree, Or):
        parts = [_negated(_folded(part, tag, clock)) for part in tree.parts]
        return _negated(_all(parts))
    if isinstance(tree, Truth):
        return _compared(Compare(tree.name, "==", (True,)), tag, clock)
    return _compared(tree, tag, clock)


def _negated(verdict: Verdict) -> Verdict:
    if isinstance(verdict, bool):
        return not verdict
    holds = verdict.holds
    return verdict._replace(holds=lambda seen: not holds(seen))


def _all(parts: Sequence[Verdict]) -> Verdict:
    if any(part is False for part in parts):
        return False
    # what needs less is asked first
    tests = sorted(
        (part for part in parts if isinstance(part, Test)),
        key=lambda test: (test.needs_paths, test.needs_values),
    )
    if not tests:
        return True
    if len(tests) == 1:
        return tests[0]
    answers = [test.holds for test in tests]
    return Test(
        lambda seen: all(holds(seen) for holds in answers),
        any(test.needs_values for test in tests),
        any(test.needs_paths for test in tests),
    )


def _compared(tree: Compare, tag: int, clock: Clock) -> Verdict:
    name = tree.name
    if name in EVERY:
        (sort,) = operands.sorts(name)
        values = tree.values
        if name == GROUP:
            values = tuple(_group(value) for value in values)
        check = comparing.check_of(sort, tree.operator, values, clock)
        return _of_every(name, tree, check, tag)
    operand = FIELDS[name.removeprefix(".")].get(tag)
    if operand is None:
        return False
    sort = Sort(operand.kind, operand.is_optional, operand.members)
    if not comparing.fits(sort, tree.operator, tree.values):
        return False
    get = operand.get
    if not operand.is_many:
        check = comparing.check_of(sort, tree.operator, tree.values, clock)
        return Test(lambda seen: check(get(seen.values)), needs_values=True)
    any_of = _any_of(sort, tree, clock)
    return Test(lambda seen: any_of(get(seen.values)), needs_values=True)


def _any_of(sort: Sort, tree: Compare, clock: Clock) -> Check:
    """A comparison with several values: any of them; unlike is what none of them is like."""
    if tree.operator == "!=":
        check = comparing.check_of(sort, "==", tree.values, clock)
        return lambda values: bool(values) and not any(map(check, values))
    check = comparing.check_of(sort, tree.operator, tree.values, clock)
    return lambda values: any(map(check, values))


def _of_every(name: str, tree: Compare, check: Check, tag: int) -> Verdict:
    cls = BY_TAG.get(tag)
    if name == TAG:
        return check(tag)
    if name == KIND:
        return check(cls.__name__ if cls else "")
    if name == GROUP:
        return check(cls.group.value if cls else "")
    if name == SEQ:
        return Test(lambda seen: check(seen.seq))
    if name == TIME:
        return Test(lambda seen: check(seen.time))
    if name == SIZE:
        return Test(lambda seen: check(seen.size))
    if cls is None or tag not in NAMING:
        return False
    if name == PATH:
        any_path = _any_of(Sort(Kind.TEXT), tree, NO_CLOCK)
        return Test(lambda seen: any_path(seen.paths), needs_values=True, needs_paths=True)
    assert name == DESCRIPTOR
    return _of_descriptors(cls, tree)


def _of_descriptors(cls: type[Event], tree: Compare) -> Verdict:
    places = [cls.names.index(name) for name in descriptor_fields(cls)]
    if not places:
        return False
    any_number = _any_of(Sort(Kind.NUMBER), tree, NO_CLOCK)
    return Test(
        lambda seen: any_number([seen.values[place] for place in places]), needs_values=True
    )


def _group(value: Literal) -> Literal:
    """A group by the name that we have for it."""
    return GROUPS[value].value if isinstance(value, str) and value in GROUPS else value
