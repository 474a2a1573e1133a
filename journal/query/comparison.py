"""Comparison operators: their type checks, and their compilation to tests of a value."""

from collections.abc import Callable
from difflib import get_close_matches
from ipaddress import ip_address
from operator import eq, ge, gt, le, lt, ne
from typing import Any

from journal.query import fields, patterns
from journal.query.fields import FieldType, TypeCategory, Vocabulary
from journal.query.literals import (
    TIME_EXAMPLES,
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


def explain_mismatch(
    name: str, operator: str, values: tuple[Literal, ...], vocabulary: Vocabulary
) -> str:
    """Return the reason why no kind of event can compare a field so; empty if a kind can."""
    for value in values:
        unknown = _explain_unknown_name(name, value, vocabulary)
        if unknown and operator in _EQUALS:
            return unknown
    reasons = [
        _explain_type_mismatch(name, field_type, operator, values)
        for field_type in fields.find_types(name, vocabulary)
    ]
    return "" if "" in reasons else sorted(reasons)[0]


def is_comparable(field_type: FieldType, operator: str, values: tuple[Literal, ...]) -> bool:
    """Return whether a field of this type can be compared in this way."""
    return not _explain_type_mismatch("", field_type, operator, values)


def _explain_type_mismatch(
    name: str, field_type: FieldType, operator: str, values: tuple[Literal, ...]
) -> str:
    if operator not in _OPERATORS[field_type.category]:
        if not operator:
            return f"{name} is {field_type.category.value}: it needs an operator and a value"
        allowed = ", ".join(filter(None, _OPERATORS[field_type.category]))
        return f"{name} is {field_type.category.value}: {operator} does not apply, use {allowed}"
    if operator in _PATTERNS:
        return _explain_pattern_error(operator, values[0])
    for value in values:
        if value is None and field_type.is_optional and operator in _EQUALS:
            continue
        if not _is_of_type(field_type, operator, value):
            return _explain_wrong_value(name, field_type, value)
    return ""


def _explain_pattern_error(operator: str, value: Literal) -> str:
    if not isinstance(value, str | bytes):
        return f"{operator} needs a pattern in quotes, got {format_literal(value)}"
    try:
        _PATTERNS[operator](_decode_pattern(value))
    except PatternError as error:
        return f"invalid pattern: {error.reason}"
    return ""


def _is_of_type(field_type: FieldType, operator: str, value: Literal) -> bool:
    """Return whether a literal is a value of this type."""
    kind = field_type.category
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if kind is TypeCategory.NUMBER:
        return is_number or isinstance(value, Duration)
    if kind is TypeCategory.TIME:
        return (
            is_number or isinstance(value, Moment) or (isinstance(value, str) and _is_time(value))
        )
    if kind is TypeCategory.FLAG:
        return isinstance(value, bool)
    if kind is TypeCategory.BYTES:
        return isinstance(value, str | bytes)
    if kind is TypeCategory.MEMBER:
        return is_number or (operator in _EQUALS and _find_member(field_type, value) is not None)
    if kind is TypeCategory.ADDRESS:
        return isinstance(value, str) and _parse_address(value) is not None
    return isinstance(value, str)


def _explain_wrong_value(name: str, field_type: FieldType, value: Literal) -> str:
    if field_type.members is not None and isinstance(value, str):
        names = [member.name for member in field_type.members]
        near = get_close_matches(value.upper(), names, 1)
        hint = f"did you mean {near[0]}?" if near else "known values: " + ", ".join(names)
        return f"{name} has no value {value!r}: {hint}"
    if field_type.category is TypeCategory.TIME and isinstance(value, str):
        return f"{value!r} is not a time; examples: {TIME_EXAMPLES}"
    return f"{name} is {field_type.category.value}, got {format_literal(value)}"


def _explain_unknown_name(name: str, value: Literal, vocabulary: Vocabulary) -> str:
    """Return the reason why a name is not a kind or a group; empty if the name exists."""
    words = {fields.KIND: vocabulary.kind_names, fields.GROUP: tuple(fields.GROUPS)}
    names = words.get(name)
    if names is None or not isinstance(value, str) or value in names:
        return ""
    folded = {word.lower(): word for word in names}
    near = [folded[word] for word in get_close_matches(value.lower(), list(folded), 1)]
    return f"unknown {name} {value!r}" + (f": did you mean {near[0]}?" if near else "")


def make_test(
    field_type: FieldType, operator: str, values: tuple[Literal, ...], clock: JournalTimes
) -> ValueTest:
    """Return the test of a value for a comparison that ``is_comparable`` accepts."""
    if operator in _PATTERNS:
        return _make_pattern_test(_PATTERNS[operator](_decode_pattern(values[0])), field_type)
    bounds = [_to_event_value(field_type, value, clock) for value in values]
    if field_type.category is TypeCategory.ADDRESS:
        bounds = [_parse_address(value) for value in bounds]
    if operator == "in":
        return lambda value: value in bounds
    bound = bounds[0]
    if operator in _ORDERS:
        order = _ORDERS[operator]
        return lambda value: value is not None and order(value, bound)
    return _make_comparison(eq if operator == "==" else ne, bound)


def _make_comparison(compare: Callable[[Any, Any], bool], bound: Any) -> ValueTest:
    return lambda value: compare(value, bound)


def _make_pattern_test(pattern: Pattern, field_type: FieldType) -> ValueTest:
    if field_type.category is TypeCategory.MEMBER:
        return lambda value: pattern.matches(value.name)
    if field_type.category is TypeCategory.ADDRESS:
        return lambda value: pattern.matches(str(value))
    return lambda value: value is not None and pattern.matches(value)


def _to_event_value(field_type: FieldType, value: Literal, clock: JournalTimes) -> Any:
    """Return a literal in the form that events have."""
    if isinstance(value, Duration):
        return value.nanoseconds
    if field_type.category is TypeCategory.TIME and isinstance(value, str):
        value = try_parse_moment(value)
    if isinstance(value, Moment):
        return clock.resolve(value)
    if field_type.category is TypeCategory.BYTES and isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if field_type.category is TypeCategory.MEMBER and isinstance(value, str):
        return _find_member(field_type, value)
    return value


def _find_member(field_type: FieldType, value: Literal) -> int | None:
    if not isinstance(value, str) or field_type.members is None:
        return None
    name = value.upper().replace("-", "_")
    return next((int(member) for member in field_type.members if member.name == name), None)


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
