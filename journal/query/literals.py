"""Literals of the query language: numbers, texts, bytes, times and durations."""

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from journal.errors import ExpressionError

DURATION_PATTERN = r"(?:\d+(?:\.\d+)?(?:ns|us|ms|s|m|h|d))+"
"""Regular expression of a duration."""

TIME_EXAMPLES = "2026-11-21T10:00:00Z, -5m, +1h30m"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNIT_NANOSECONDS = {
    "ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9,
    "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9,
}  # fmt: skip
_PIECE = re.compile(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h|d)", re.ASCII)


class MomentBase(StrEnum):
    """Time from which a moment is counted."""

    EPOCH = "epoch"
    FIRST = "first"
    """Time of the first event of the journal."""
    LAST = "last"
    """Time of the last event of the journal."""


class Moment(NamedTuple):
    """Point in time, in microseconds before the last event, or after the first or the epoch."""

    base: MomentBase
    microseconds: int

    def __str__(self) -> str:
        if self.base is MomentBase.EPOCH:
            moment = _EPOCH + timedelta(microseconds=self.microseconds)
            return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
        return f"{'+' if self.base is MomentBase.FIRST else '-'}{self.microseconds}us"


class JournalTimes(NamedTuple):
    """Times of a journal's first and last event, in µs since the epoch."""

    first: int
    last: int

    def resolve(self, moment: Moment) -> int:
        """Return a moment in µs since the epoch."""
        if moment.base is MomentBase.EPOCH:
            return moment.microseconds
        return (
            self.first + moment.microseconds
            if moment.base is MomentBase.FIRST
            else self.last - moment.microseconds
        )


class Duration(NamedTuple):
    """Duration in nanoseconds."""

    nanoseconds: int

    def __str__(self) -> str:
        return f"{self.nanoseconds}ns"


Literal = int | str | bytes | bool | Moment | Duration | None


def format_literal(value: Literal) -> str:
    """Return a literal as written in an expression."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return 'x"' + value.hex() + '"'
    if isinstance(value, str):
        return '"' + "".join(map(_escape_character, value)) + '"'
    return str(value)


def _escape_character(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character.isprintable():
        return character
    return f"\\U{ord(character):08x}"


def parse_moment(text: str) -> Moment:
    """Return the moment for ISO 8601 text, ``-5m`` before the last event, or ``+5m`` after the
    first.

    A time without a zone is in UTC. Raises ExpressionError.
    """
    moment = try_parse_moment(text.strip())
    if moment is None:
        raise ExpressionError(f"{text!r} is not a time; examples: {TIME_EXAMPLES}", text, 0)
    return moment


def try_parse_moment(text: str) -> Moment | None:
    """Return the moment for a text, or None if the text is not a time."""
    if text[:1] in ("+", "-") and re.fullmatch(DURATION_PATTERN, text[1:], re.ASCII):
        return Moment(
            MomentBase.FIRST if text[0] == "+" else MomentBase.LAST,
            parse_duration(text[1:]) // 1000,
        )
    try:
        time = datetime.fromisoformat(text)
        time = time if time.tzinfo else time.replace(tzinfo=UTC)
        micros = (time - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        return None
    return Moment(MomentBase.EPOCH, micros) if micros >= 0 else None


def parse_duration(text: str) -> int:
    """Return a duration in nanoseconds. The text must match ``DURATION_PATTERN``."""
    total = 0
    for number, unit in _PIECE.findall(text):
        whole, _, part = number.partition(".")
        total += int(whole) * _UNIT_NANOSECONDS[unit]
        total += int(part) * _UNIT_NANOSECONDS[unit] // 10 ** len(part) if part else 0
    return total
