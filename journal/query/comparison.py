"""Comparisons: which make sense, and what each is as a function of a value."""

from collections.abc import Callable
from difflib import get_close_matches
from ipaddress import ip_address
from operator import eq, ge, gt, le, lt, ne
from typing import Any

from journal.query import fields as operands
from journal.query import patterns
from journal.query.fields import Kind, Sort
from journal.query.literals import Clock, Literal, Moment, Span, moment_of, written
from journal.query.patterns import Pattern, PatternError

Check = Callable[[Any], bool]

_ORDERS: dict[str, Callable[[Any, Any], bool]] = {"<": lt, "<=": le, ">": gt, ">=": ge}
_EQUALS = ("==", "!=", "in")
_PATTERNS = {"glob": patterns.glob, "matches": patterns.regex}
_OPERATORS = {
    Kind.NUMBER: (*_EQUALS, *_ORDERS),
    Kind.TIME: (*_EQUALS, *_ORDERS),
    Kind.FLAG: ("", "==", "!="),
    Kind.TEXT: (*_EQUALS, *_PATTERNS),
    Kind.BYTES: (*_EQUALS, *_PATTERNS),
    Kind.MEMBER: (*_EQUALS, *_ORDERS, *_PATTERNS),
    Kind.ADDRESS: (*_EQUALS, *_PATTERNS),
}


def misfit(name: str, operator: str, values: tuple[Literal, ...]) -> str:
    """Say why something cannot be compared so in any kind of event; empty if it can."""
    reasons = [_misfit(name, sort, operator, values) for sort in operands.sorts(name)]
    return "" if "" in reasons else sorted(reasons)[0]


def fits(sort: Sort, operator: str, values: tuple[Literal, ...]) -> bool:
    """Whether what is of this type can be compared so."""
    return not _misfit("", sort, operator, values)


def _misfit(name: str, sort: Sort, operator: str, values: tuple[Literal, ...]) -> str:
    if operator not in _OPERATORS[sort.kind]:
        if not operator:
            return f"{name} is {sort.kind.value}: what is it compared with?"
        return f"{name} is {sort.kind.value}: it cannot be compared by {operator}"
    if operator in _PATTERNS:
        return _flaw_of_pattern(operator, values[0])
    for value in values:
        if unknown := _unknown_word(name, value):
            return unknown
        if value is None and sort.is_optional and operator in _EQUALS:
            continue
        if not _is_of(sort, operator, value):
            return _unlike(name, sort, value)
    return ""


def _flaw_of_pattern(operator: str, value: Literal) -> str:
    if not isinstance(value, str | bytes):
        return "a pattern is a text in quotes"
    try:
        _PATTERNS[operator](_text(value))
    except PatternError as error:
        return f"in the pattern, behind {error.position} characters: {error.reason}"
    return ""


def _is_of(sort: Sort, operator: str, value: Literal) -> bool:
    """Whether a value is one that this type has."""
    kind = sort.kind
    number = isinstance(value, int) and not isinstance(value, bool)
    if kind is Kind.NUMBER:
        return number or isinstance(value, Span)
    if kind is Kind.TIME:
        return number or isinstance(value, Moment) or (isinstance(value, str) and _is_time(value))
    if kind is Kind.FLAG:
        return isinstance(value, bool)
    if kind is Kind.BYTES:
        return isinstance(value, str | bytes)
    if kind is Kind.MEMBER:
        return number or (operator in _EQUALS and _member(sort, value) is not None)
    if kind is Kind.ADDRESS:
        return isinstance(value, str) and _address(value) is not None
    return isinstance(value, str)


def _unlike(name: str, sort: Sort, value: Literal) -> str:
    if sort.members is not None and isinstance(value, str):
        known = [member.name for member in sort.members]
        near = get_close_matches(value.upper(), known, 1)
        hint = f"{near[0]}?" if near else "it has " + ", ".join(known)
        return f"{name} is never {value!r}: {hint}"
    if sort.kind is Kind.TIME and isinstance(value, str):
        return f"{value!r} is no time: 2026-11-21T10:00:00Z, -5m, +1h30m"
    return f"{name} is {sort.kind.value}, and {written(value)} is not"


def _unknown_word(name: str, value: Literal) -> str:
    """Say what is wrong with a kind or a group that does not exist; empty if it does."""
    words = {operands.KIND: tuple(operands.KINDS), operands.GROUP: tuple(operands.GROUPS)}
    known = words.get(name)
    if known is None or not isinstance(value, str) or value in known:
        return ""
    folded = {word.lower(): word for word in known}
    near = [folded[word] for word in get_close_matches(value.lower(), list(folded), 1)]
    return f"there is no {name} {value!r}" + (f": {near[0]}?" if near else "")


def check_of(sort: Sort, operator: str, values: tuple[Literal, ...], clock: Clock) -> Check:
    """Make the function of a value that a comparison is, which fits."""
    if operator in _PATTERNS:
        return _check_of_pattern(_PATTERNS[operator](_text(values[0])), sort)
    wanted = [_lowered(sort, value, clock) for value in values]
    if sort.kind is Kind.ADDRESS:
        wanted = [_address(value) for value in wanted]
    if operator == "in":
        return lambda value: value in wanted
    bound = wanted[0]
    if operator in _ORDERS:
        order = _ORDERS[operator]
        return lambda value: value is not None and order(value, bound)
    return _comparing(eq if operator == "==" else ne, bound)


def _comparing(compare: Callable[[Any, Any], bool], bound: Any) -> Check:
    return lambda value: compare(value, bound)


def _check_of_pattern(pattern: Pattern, sort: Sort) -> Check:
    if sort.kind is Kind.MEMBER:
        return lambda value: pattern.matches(value.name)
    if sort.kind is Kind.ADDRESS:
        return lambda value: pattern.matches(str(value))
    return lambda value: value is not None and pattern.matches(value)


def _lowered(sort: Sort, value: Literal, clock: Clock) -> Any:
    """A value as events have it."""
    if isinstance(value, Span):
        return value.nanos
    if sort.kind is Kind.TIME and isinstance(value, str):
        value = moment_of(value)
    if isinstance(value, Moment):
        return clock.time(value)
    if sort.kind is Kind.BYTES and isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if sort.kind is Kind.MEMBER and isinstance(value, str):
        return _member(sort, value)
    return value


def _member(sort: Sort, value: Literal) -> int | None:
    if not isinstance(value, str) or sort.members is None:
        return None
    name = value.upper().replace("-", "_")
    return next((int(member) for member in sort.members if member.name == name), None)


def _address(value: Literal) -> object:
    try:
        return ip_address(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _is_time(value: str) -> bool:
    return moment_of(value) is not None


def _text(value: Literal) -> str:
    assert isinstance(value, str | bytes)
    return value if isinstance(value, str) else value.decode("latin-1")
