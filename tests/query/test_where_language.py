"""Expressions: printing, parsing, and evaluation against a plain interpreter."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from enum import IntEnum
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from journal.errors import ExpressionError, JournalError
from journal.events import BY_TAG, codec
from journal.events.definition import Event, Group
from journal.events.paths import PathRename
from journal.events.process import Mount
from journal.events.snapshots import Trigger
from journal.query import fields as operands
from journal.query import patterns
from journal.query.compiler import CompiledQuery
from journal.query.fields import TypeCategory
from journal.query.literals import Duration, Literal, Moment, MomentBase
from journal.query.parser import And, BooleanField, Comparison, Expression, Not, Or, parse
from journal.query.path_tracker import PathTracker
from journal.query.patterns import PatternError
from tests.support.query_strategies import CLOCK, OPERATORS, trees
from tests.support.strategies import every_event


@given(trees())
def test_a_printed_expression_parses_to_the_same_tree(tree: Expression) -> None:
    assert parse(str(tree)) == tree
    assert str(parse(str(tree))) == str(tree)


# -- an interpreter without tags, columns and compiled functions -----------------------


def get_field(event: Event, name: str) -> Any:
    """Return a field or a part of a field; raise LookupError if the event lacks it."""
    found: Any = event
    for part in name.removeprefix(".").split("."):
        if found is event and part not in event.names:
            raise LookupError
        if found is None:
            return None
        if not hasattr(found, part):  # This event has a field of this name and another type.
            raise LookupError
        found = getattr(found, part)
    return found


def candidates(event: Event, seq: int, moment: int, name: str) -> tuple[list[Any], bool]:
    """Return the values of a name in an event, and whether any one of them may match."""
    size = len(codec.encode(event))
    common_values: dict[str, Any] = {
        "seq": seq,
        "time": moment,
        "size": size,
        "tag": event.tag,
        "kind": type(event).__name__,
        "group": event.group.value,
    }
    if name in common_values:
        return [common_values[name]], False
    if name == "path":
        return list(
            PathTracker().find_paths(event.tag, tuple(getattr(event, n) for n in event.names))
        ), True
    if name == "descriptor":
        is_stream = type(event).__name__ in ("StreamRead", "StreamWrite", "StreamOpened")
        is_stream |= type(event).__name__ == "StreamDelivered"
        fd_names = [n for n in event.names if re.fullmatch(r".*fd[12]?", n)]
        return [getattr(event, n) for n in (["stream"] if is_stream else fd_names)], True
    try:
        found = get_field(event, name)
    except LookupError:
        return [], True
    return (list(found), True) if isinstance(found, tuple) else ([found], False)


def equals(value: Any, literal: Literal) -> bool:
    """Return whether a value equals a literal."""
    if isinstance(literal, Moment):
        starts = {MomentBase.EPOCH: 0, MomentBase.FIRST: CLOCK.first, MomentBase.LAST: CLOCK.last}
        sign = -1 if literal.base is MomentBase.LAST else 1
        return bool(value == starts[literal.base] + sign * literal.microseconds)
    if isinstance(literal, Duration):
        return bool(value == literal.nanoseconds)
    if isinstance(value, IntEnum) and isinstance(literal, str):
        return value.name == literal
    if isinstance(value, IPv4Address | IPv6Address):
        return str(value) == literal
    if isinstance(value, bytes) and isinstance(literal, str):
        return value == literal.encode()
    return bool(value == literal) and (isinstance(value, bool) == isinstance(literal, bool))


def is_less(value: Any, literal: Literal) -> bool:
    """Return whether a value is less than a literal."""
    if isinstance(literal, Moment):
        starts = {MomentBase.EPOCH: 0, MomentBase.FIRST: CLOCK.first, MomentBase.LAST: CLOCK.last}
        literal = (
            starts[literal.base]
            + (-1 if literal.base is MomentBase.LAST else 1) * literal.microseconds
        )
    if isinstance(literal, Duration):
        literal = literal.nanoseconds
    assert isinstance(literal, int)
    return bool(value < literal)


def matches_glob(value: Any, pattern: str) -> bool:
    """Return whether a glob matches, by an equivalent Python regular expression."""
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    text = value.name if isinstance(value, IntEnum) else str(text)
    regex_by_glob = {
        "*": "[^/]*", "**": ".*", "tmp/*": "tmp/[^/]*", "?": "[^/]", "": "",
        "[a-c]*": "[a-c][^/]*", "**/x": "(.*/)?x", "\\*": "\\*", "/t**": "/t.*",
    }  # fmt: skip
    return re.fullmatch(regex_by_glob[pattern], text, re.DOTALL) is not None


def compare(event: Event, seq: int, moment: int, tree: Comparison) -> bool:
    values, _ = candidates(event, seq, moment, tree.name)
    name = tree.name.removeprefix(".") if tree.name not in operands.COMMON_FIELDS else ""
    operand = operands.BUILT_IN.fields.get(name, {}).get(event.tag)
    if name and operand is None:
        return False
    members = operand.members if operand else None
    kind = operand.category if operand else None
    if not is_valid_for(tree, kind, members, operand is not None and operand.is_optional):
        return False
    if not values:
        return False
    first = tree.values[0]
    if tree.operator == "!=":
        return not any(equals(value, first) for value in values)
    return any(matches(value, tree.operator, tree.values) for value in values)


def matches(value: Any, operator: str, literals: tuple[Literal, ...]) -> bool:
    if operator in ("==", "in"):
        return any(equals(value, resolve_group(value, literal)) for literal in literals)
    if value is None:
        return False
    if operator == "glob":
        assert isinstance(literals[0], str)
        return matches_glob(value, literals[0])
    less, equal = is_less(value, literals[0]), equals(value, literals[0])
    return {"<": less, "<=": less or equal, ">": not (less or equal), ">=": not less}[operator]


def resolve_group(value: Any, literal: Literal) -> Literal:
    """Resolve the alias of a group if the value is a group."""
    is_group = isinstance(value, str) and value in {g.value for g in Group}
    if is_group and isinstance(literal, str) and literal in operands.ALIASES:
        return operands.ALIASES[literal].value
    return literal


def is_valid_for(
    tree: Comparison, kind: TypeCategory | None, members: type[IntEnum] | None, is_optional: bool
) -> bool:
    """Return whether the comparison is valid for the type of the field."""
    if kind is None:
        return True
    if tree.operator not in (*OPERATORS[kind], *(("<=", ">", ">=", "glob") if members else ())):
        return False
    if tree.operator == "glob":
        return True
    for value in tree.values:
        number = isinstance(value, int) and not isinstance(value, bool)
        fits = {
            TypeCategory.NUMBER: number or isinstance(value, Duration),
            TypeCategory.FLAG: isinstance(value, bool),
            TypeCategory.TEXT: isinstance(value, str),
            TypeCategory.BYTES: isinstance(value, str | bytes),
            TypeCategory.ADDRESS: isinstance(value, str)
            and bool(re.fullmatch(r"[0-9a-f:.]+", value)),
            TypeCategory.MEMBER: number
            or (members is not None and isinstance(value, str) and value in members.__members__),
        }[kind]
        if not fits and not (value is None and is_optional):
            return False
    return True


def interpret(event: Event, seq: int, moment: int, tree: Expression) -> bool:
    if isinstance(tree, Not):
        return not interpret(event, seq, moment, tree.part)
    if isinstance(tree, And):
        return all(interpret(event, seq, moment, part) for part in tree.parts)
    if isinstance(tree, Or):
        return any(interpret(event, seq, moment, part) for part in tree.parts)
    if isinstance(tree, BooleanField):
        return compare(event, seq, moment, Comparison(tree.name, "==", (True,)))
    return compare(event, seq, moment, tree)


def insert_values(tree: Expression, event: Event) -> Expression:
    """Put values of the event into the expression, so that some comparisons hold."""
    if isinstance(tree, Not):
        return Not(insert_values(tree.part, event))
    if isinstance(tree, And | Or):
        return type(tree)(tuple(insert_values(part, event) for part in tree.parts))
    if isinstance(tree, Comparison) and tree.operator != "glob":
        values, _ = candidates(event, 7, CLOCK.first + 5, tree.name)
        plain = [v for v in values if type(v) in (int, str, bytes) and tree.name != "path"]
        if plain and not isinstance(tree.values[0], Moment | bool):
            changed = Comparison(tree.name, tree.operator, (plain[0], *tree.values[1:]))
            try:
                return parse(str(changed))
            except ExpressionError:
                return tree
    return tree


@settings(max_examples=100)
@given(trees(), every_event(), st.booleans())
def test_evaluation_agrees_with_an_interpreter_of_decoded_events(
    tree: Expression, event: Event, has_values_of_event: bool
) -> None:
    tree = insert_values(tree, event) if has_values_of_event else tree
    seq, moment, payload = 7, CLOCK.first + 5, codec.encode(event)
    expected = interpret(event, seq, moment, tree)
    predicate = CompiledQuery(tree, CLOCK)
    assert predicate.matches(seq, moment, event.tag, payload, PathTracker()) == expected
    negated = CompiledQuery(tree, CLOCK, negated=True)
    assert negated.matches(seq, moment, event.tag, payload, PathTracker()) != expected


@settings(max_examples=100)
@given(trees(), every_event(), st.integers(0, 2000), st.integers(CLOCK.first, CLOCK.last))
def test_possible_and_certain_tags_agree_with_the_interpreter(
    tree: Expression, event: Event, seq: int, moment: int
) -> None:
    predicate = CompiledQuery(tree, CLOCK)
    holds = interpret(event, seq, moment, tree)
    assert not holds or event.tag in predicate.possible_tags
    assert holds or event.tag not in predicate.certain_tags
    assert predicate.certain_tags <= predicate.possible_tags


def test_a_kind_alone_needs_no_decoding() -> None:
    predicate = CompiledQuery(parse('kind == "PathRename" or group == "fs" and tag < 12'))
    assert not predicate.tested_tags
    assert PathRename.tag in predicate.certain_tags


def test_paths_in_expressions_start_at_the_root() -> None:
    predicate = CompiledQuery(parse('kind == "PathRename" and path glob "/tmp/*"'))
    names = PathTracker()
    mount = Mount(fd=3, kind=0, guest="/", host="")  # type: ignore[arg-type]
    names.track(Mount.tag, tuple(getattr(mount, name) for name in mount.names))
    for old, new, expected in (("tmp/a", "b", True), ("a", "tmp/x/b", False), ("a", "tmp/b", True)):
        event = PathRename(old_fd=3, new_fd=3, old_path=old, new_path=new)
        assert predicate.matches(0, 0, PathRename.tag, codec.encode(event), names) is expected
    assert predicate.possible_tags == {PathRename.tag}


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("fd == 0x1F", Comparison("fd", "==", (31,))),
        ("size > 1.5k", Comparison("size", ">", (1500,))),
        ("size > 64Ki", Comparison("size", ">", (65536,))),
        ("offset < -5", Comparison("offset", "<", (-5,))),
        ("data == x'00ff'", Comparison("data", "==", (b"\x00\xff",))),
        ('data == b"a\\x00"', Comparison("data", "==", (b"a\0",))),
        ("time > -5m", Comparison("time", ">", (Moment(MomentBase.LAST, 300_000_000),))),
        ("time < +1h30m", Comparison("time", "<", (Moment(MomentBase.FIRST, 5_400_000_000),))),
        (
            "time < 1970-01-01T00:00:01Z",
            Comparison("time", "<", (Moment(MomentBase.EPOCH, 1_000_000),)),
        ),
        ("time < 1970-01-02", Comparison("time", "<", (Moment(MomentBase.EPOCH, 86_400_000_000),))),
        ("monotonic > 1.5s", Comparison("monotonic", ">", (Duration(1_500_000_000),))),
        ("exit_code == none", Comparison("exit_code", "==", (None,))),
        ("fd in (1, 2)", Comparison("fd", "in", (1, 2))),
        ('trigger == "first-listen"', Comparison("trigger", "==", ("first-listen",))),
        (r'data matches "a\d+"', Comparison("data", "matches", (r"a\d+",))),
        ("whole or append and not embedded", Or((BooleanField("whole"), And((BooleanField("append"),
         Not(BooleanField("embedded"))))))),
    ],
)  # fmt: skip
def test_every_form_of_a_literal_is_parsed(text: str, tree: Expression) -> None:
    assert parse(text) == tree


@pytest.mark.parametrize(
    ("text", "column", "part"),
    [
        ("", 1, "expected a condition"),
        ("fd = 3", 4, "=="),
        ("kid == 1", 1, "did you mean kind?"),
        ("old_pth == 'x'", 1, "old_path?"),
        ('kind == "PathRenam"', 9, "PathRename?"),
        ('group == "memroy"', 10, "memory?"),
        ('fd == "x"', 7, "fd is a number"),
        ("fd == none", 7, "got none"),
        ('trigger == "explict"', 12, "EXPLICIT?"),
        ("fd glob '*'", 9, "glob does not apply"),
        ("path > 'x'", 8, "> does not apply"),
        ("fd", 1, "it needs an operator and a value"),
        ("fd == 1 fd == 2", 9, "expected the end of the expression"),
        ("(fd == 1", 9, "not closed"),
        ("fd == (1)", 7, "a value"),
        ("fd in 1", 7, "parentheses"),
        ("kind == StreamWrite", 9, '"StreamWrite"'),
        ('path == "x', 9, "string is not closed"),
        ('path matches "(a"', 14, "invalid pattern: missing )"),
        ('path matches "(?=a)"', 14, "invalid perl operator: '(?='"),
        ('path matches "a{500}{500}"', 14, "bad repetition operator"),
        ('path matches "(.{500}){500}"', 14, "invalid repetition size"),
        ('path matches "(' + "\\pL{20}" * 90 + ')"', 14, "pattern too large"),
        ('path matches "' + "a" * 2000 + '"', 14, "at most 1024 characters, got 2000"),
        ('path glob "a["', 11, "invalid pattern: set is not closed"),
        ('path glob "[!]"', 11, "invalid pattern: set is not closed"),
        ('path glob "[z-a]"', 11, "invalid character class range: 'z-a'"),
        ("time > 2026-13-01", 8, "is not a time"),
        ("size > 1.5", 8, "whole"),
        ("size > 12x", 8, "number"),
        ("fd == 1 and", 12, "expected a condition"),
        ("addr.prt == 1", 1, "addr.port?"),
        ("positions == 1", 1, "unknown field"),
        ("data == x'0'", 9, "hex"),
        ("fd == 1 ; import os", 9, "unexpected character"),
        ("__class__ == 1", 1, "unknown field"),
    ],
)
def test_an_error_has_its_column_and_a_remedy(text: str, column: int, part: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    assert caught.value.position == column - 1
    assert part in str(caught.value)
    assert str(caught.value).endswith(f"at column {column}")
    assert "\n" not in str(caught.value)


@given(
    st.text(max_size=60)
    | st.lists(
        st.sampled_from(
            ["(", ")", "not", "and", "or", "fd", "==", "in", ",", '"x"', "1", "-5m", "."]
        )
    ).map(" ".join)
)
def test_any_text_is_an_expression_or_an_expression_error(text: str) -> None:
    position = 0
    try:
        tree = parse(text)
    except ExpressionError as error:
        position = error.position
    else:
        assert parse(str(tree)) == tree
    assert 0 <= position <= len(text)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 1000 + "fd == 1" + ")" * 1000,
        "not " * 500 + "fd == 1",
        "fd in (" + "1, " * 5000 + "1)",
        "fd == " + "9" * 4000,
        'path matches "' + "(" * 200 + '"',
        'path matches "(a{500}){500}"',
        'path matches "' + "a{99}" * 90 + '"',
        'path glob "' + "[" * 2000 + '"',
        "time > -" + "9" * 400 + "d",
    ],
    ids=lambda text: text[:20],
)
def test_a_hostile_expression_is_refused_or_parsed_in_short_time(text: str) -> None:
    with suppress(JournalError):  # Without a limit this would run until the test times out.
        CompiledQuery(parse(text), CLOCK)


PATTERNS = st.recursive(
    st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\d", "c", r"\w"]),
    lambda inner: st.one_of(
        st.builds("{}{}".format, inner, inner),
        st.builds("(?:{}|{})".format, inner, inner),
        st.builds("({}){}".format, inner, st.sampled_from(["*", "+", "?", "{1,2}", "{2}", "*?"])),
        st.builds("^{}".format, inner),
        st.builds("{}$".format, inner),
    ),
    max_leaves=6,
)


def find_with_python(pattern: str, text: str) -> bool:
    """Return whether a pattern matches, by a backtracking matcher."""
    return re.search(pattern.replace("$", r"\Z"), text, re.ASCII) is not None


@settings(max_examples=100)
@given(PATTERNS, st.text("abc1 \né中\ud800\udcff", max_size=8))
def test_patterns_match_what_python_matches(pattern: str, text: str) -> None:
    found = patterns.compile_regex(pattern)
    assert found.matches(text) == find_with_python(pattern, text)


@settings(max_examples=100)
@given(PATTERNS, st.lists(st.sampled_from(b"abc1 \n\0\x80\xe9\xff"), max_size=8).map(bytes))
def test_each_byte_is_a_character(pattern: str, data: bytes) -> None:
    found = patterns.compile_regex(pattern)
    assert found.matches(data) == find_with_python(pattern, data.decode("latin-1"))


@given(st.characters(), st.characters())
def test_a_pattern_can_hold_any_character(wanted: str, other: str) -> None:
    for found in (
        patterns.compile_regex(f"^[{re.escape(wanted)}]$"),
        patterns.compile_glob("\\" + wanted),
        patterns.compile_glob(f"[{re.escape(wanted)}]"),
    ):
        assert found.matches(wanted)
        assert found.matches(other) == (wanted == other)


def test_a_pattern_that_is_refused_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    for pattern in ("(a", r"\pL{500}", "\\\udcff"):
        with pytest.raises(PatternError):
            patterns.compile_regex(pattern)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("statement", "loads"),
    [
        ("import journal", False),
        ("import journal.query as q; q.Query(where='fd == 1')", False),
        ("import journal.query as q; q.parse('path == \"a\"')", False),
        ("import journal.query as q; q.parse('path glob \"a\"')", True),
    ],
)
def test_only_a_pattern_loads_its_matcher(statement: str, loads: bool) -> None:
    program = f"import sys; {statement}; print('re2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == (str(loads), "")


@given(st.text("ab*?[]!-", max_size=6), st.text("ab-!", max_size=6))
def test_globs_without_slashes_match_what_python_matches(pattern: str, text: str) -> None:
    assume("**" not in pattern)
    try:
        found = patterns.compile_glob(pattern)
    except PatternError:
        return
    assume("[" not in pattern or re.fullmatch(r"[^\[\]]*(\[!?[ab]+\][^\[\]]*)*", pattern))
    assert found.matches(text) == fnmatchcase(text, pattern)


@pytest.mark.parametrize("pattern", ["(a+)+b", "(a|a)*b", "(a*)*$b", "(.*)*(.*)*(.*)*x$"])
def test_a_pattern_matches_in_linear_time(pattern: str) -> None:
    # A backtracking matcher would run until the test times out.
    assert not patterns.compile_regex(pattern).matches("a" * 200_000)


def test_every_comparable_field_has_a_type() -> None:
    untyped = {
        f"{cls.__name__}.{name}"
        for cls in BY_TAG.values()
        for name in cls.names
        if cls.tag not in tags_of(name)
    }
    # These fields are rows of several values.
    assert untyped == {
        "GlobalsSet.globals",
        "DescriptorPositions.positions",
        "ProcessStart.configuration",
        "ApplicationKind.fields",
        "EpollResult.ready",
        "Resolved.addresses",
        "ResolvedNames.hosts",
        "SignalState.timers",
        "ChildStart.descriptors",
        "ChildStart.files",
    }


def tags_of(name: str) -> Iterable[int]:
    parts = [field for field in operands.BUILT_IN.fields if field.partition(".")[0] == name]
    return {tag for part in parts for tag in operands.BUILT_IN.fields[part]}


def test_a_member_name_is_matched_in_either_spelling() -> None:
    checks = [parse(f'trigger == "{name}"') for name in ("first-listen", "FIRST_LISTEN")]
    payload = codec.encode(
        BY_TAG[59](when=0, trigger=Trigger.FIRST_LISTEN, digest=b"")  # type: ignore[call-arg]
    )
    assert all(CompiledQuery(tree).matches(0, 0, 59, payload, None) for tree in checks)


def test_an_inequality_of_a_field_without_values_is_false() -> None:
    kind = BY_TAG[142]
    empty = codec.encode(kind(memory=0, size=0, numbers=(), kinds=b"", data=b""))  # type: ignore[call-arg]
    filled = codec.encode(kind(memory=0, size=0, numbers=(3,), kinds=b"", data=b""))  # type: ignore[call-arg]
    predicate = CompiledQuery(parse("numbers != 5"))
    assert not predicate.matches(0, 0, 142, empty, None)
    assert predicate.matches(0, 0, 142, filled, None)
    assert CompiledQuery(parse("not numbers == 5")).matches(0, 0, 142, empty, None)
