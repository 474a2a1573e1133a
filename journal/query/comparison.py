"""Comparisons: which make sense, and what each is as a function of a value."""

from collections.abc import Callable
from difflib import get_close_matches
from ipaddress import ip_address
from operator import eq, ge, gt, le, lt, ne
from typing import Any

from journal.query import fields, patterns
from journal.query.fields import FieldType, TypeCategory
from journal.query.literals import (
    Duration,
    JournalTimes,
    Literal,
    Moment,
    format_literal,
    try_parse_moment,
)
from journal.query.patterns import Pattern, PatternError

ValueTest = Callable[[Any], bool]

_ORDERS: dict[str, Callable[[Any, Any], bool]] = {"<": lt, "<=": le, ">": gt, ">=": ge}
_EQUALS = ("==", "!=", "in")
_PATTERNS = {"glob": patterns.compile_glob, "matches": patterns.compile_regex}
_OPERATORS = {
    TypeCategory.NUMBER: (*_EQUALS, *_ORDERS),
    TypeCategory.TIME: (*_EQUALS, *_ORDERS),
    TypeCategory.FLAG: ("", "==", "!="),
    TypeCategory.TEXT: (*_EQUALS, *_PATTERNS),
    TypeCategory.BYTES: (*_EQUALS, *_PATTERNS),
    TypeCategory.MEMBER: (*_EQUALS, *_ORDERS, *_PATTERNS),
    TypeCategory.ADDRESS: (*_EQUALS, *_PATTERNS),
}


def explain_mismatch(name: str, operator: str, values: tuple[Literal, ...]) -> str:
    """Say why something cannot be compared so in any kind of event; empty if it can."""
    reasons = [
        _explain_type_mismatch(name, sort, operator, values) for sort in fields.find_types(name)
    ]
    return "" if "" in reasons else sorted(reasons)[0]


def is_comparable(sort: FieldType, operator: str, values: tuple[Literal, ...]) -> bool:
    """Whether what is of this type can be compared so."""
    return not _explain_type_mismatch("", sort, operator, values)


def _explain_type_mismatch(
    name: str, sort: FieldType, operator: str, values: tuple[Literal, ...]
) -> str:
    if operator not in _OPERATORS[sort.category]:
        if not operator:
            return f"{name} is {sort.category.value}: what is it compared with?"
        return f"{name} is {sort.category.value}: it cannot be compared by {operator}"
    if operator in _PATTERNS:
        return _explain_pattern_error(operator, values[0])
    for value in values:
        if unknown := _explain_unknown_name(name, value):
            return unknown
        if value is None and sort.is_optional and operator in _EQUALS:
            continue
        if not _is_of_type(sort, operator, value):
            return _explain_wrong_value(name, sort, value)
    return ""


def _explain_pattern_error(operator: str, value: Literal) -> str:
    if not isinstance(value, str | bytes):
        return "a pattern is a text in quotes"
    try:
        _PATTERNS[operator](_decode_pattern(value))
    except PatternError as error:
        return f"in the pattern, behind {error.position} characters: {error.reason}"
    return ""


def _is_of_type(sort: FieldType, operator: str, value: Literal) -> bool:
    """Whether a value is one that this type has."""
    kind = sort.category
    number = isinstance(value, int) and not isinstance(value, bool)
    if kind is TypeCategory.NUMBER:
        return number or isinstance(value, Duration)
    if kind is TypeCategory.TIME:
        return number or isinstance(value, Moment) or (isinstance(value, str) and _is_time(value))
    if kind is TypeCategory.FLAG:
        return isinstance(value, bool)
    if kind is TypeCategory.BYTES:
        return isinstance(value, str | bytes)
    if kind is TypeCategory.MEMBER:
        return number or (operator in _EQUALS and _find_member(sort, value) is not None)
    if kind is TypeCategory.ADDRESS:
        return isinstance(value, str) and _parse_address(value) is not None
    return isinstance(value, str)


def _explain_wrong_value(name: str, sort: FieldType, value: Literal) -> str:
    if sort.members is not None and isinstance(value, str):
        known = [member.name for member in sort.members]
        near = get_close_matches(value.upper(), known, 1)
        hint = f"{near[0]}?" if near else "it has " + ", ".join(known)
        return f"{name} is never {value!r}: {hint}"
    if sort.category is TypeCategory.TIME and isinstance(value, str):
        return f"{value!r} is no time: 2026-11-21T10:00:00Z, -5m, +1h30m"
    return f"{name} is {sort.category.value}, and {format_literal(value)} is not"


def _explain_unknown_name(name: str, value: Literal) -> str:
    """Say what is wrong with a kind or a group that does not exist; empty if it does."""
    words = {fields.KIND: tuple(fields.KINDS), fields.GROUP: tuple(fields.GROUPS)}
    known = words.get(name)
    if known is None or not isinstance(value, str) or value in known:
        return ""
    folded = {word.lower(): word for word in known}
    near = [folded[word] for word in get_close_matches(value.lower(), list(folded), 1)]
    return f"there is no {name} {value!r}" + (f": {near[0]}?" if near else "")


def make_test(
    sort: FieldType, operator: str, values: tuple[Literal, ...], clock: JournalTimes
) -> ValueTest:
    """Make the function of a value that a comparison is, which fits."""
    if operator in _PATTERNS:
        return _make_pattern_test(_PATTERNS[operator](_decode_pattern(values[0])), sort)
    wanted = [_to_event_value(sort, value, clock) for value in values]
    if sort.category is TypeCategory.ADDRESS:
        wanted = [_parse_address(value) for value in wanted]
    if operator == "in":
        return lambda value: value in wanted
    bound = wanted[0]
    if operator in _ORDERS:
        order = _ORDERS[operator]
        return lambda value: value is not None and order(value, bound)
    return _make_comparison(eq if operator == "==" else ne, bound)


def _make_comparison(compare: Callable[[Any, Any], bool], bound: Any) -> ValueTest:
    return lambda value: compare(value, bound)


def _make_pattern_test(pattern: Pattern, sort: FieldType) -> ValueTest:
    if sort.category is TypeCategory.MEMBER:
        return lambda value: pattern.matches(value.name)
    if sort.category is TypeCategory.ADDRESS:
        return lambda value: pattern.matches(str(value))
    return lambda value: value is not None and pattern.matches(value)


def _to_event_value(sort: FieldType, value: Literal, clock: JournalTimes) -> Any:
    """A value as events have it."""
    if isinstance(value, Duration):
        return value.nanoseconds
    if sort.category is TypeCategory.TIME and isinstance(value, str):
        value = try_parse_moment(value)
    if isinstance(value, Moment):
        return clock.resolve(value)
    if sort.category is TypeCategory.BYTES and isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if sort.category is TypeCategory.MEMBER and isinstance(value, str):
        return _find_member(sort, value)
    return value


def _find_member(sort: FieldType, value: Literal) -> int | None:
    if not isinstance(value, str) or sort.members is None:
        return None
    name = value.upper().replace("-", "_")
    return next((int(member) for member in sort.members if member.name == name), None)


def _parse_address(value: Literal) -> object:
    try:
        return ip_address(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _is_time(value: str) -> bool:
    return try_parse_moment(value) is not None


def _decode_pattern(value: Literal) -> str:
    assert isinstance(value, str | bytes)
    return value if isinstance(value, str) else value.decode("latin-1")
