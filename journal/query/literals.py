"""Values as an expression has them: numbers, texts, bytes, times and lengths of time."""

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from journal.errors import ExpressionError

DURATION_PATTERN = r"(?:\d+(?:\.\d+)?(?:ns|us|ms|s|m|h|d))+"
"""What a length of time looks like."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNIT_NANOSECONDS = {
    "ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9,
    "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9,
}  # fmt: skip
_PIECE = re.compile(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h|d)", re.ASCII)


class MomentBase(StrEnum):
    """What a moment is counted from."""

    EPOCH = "epoch"
    FIRST = "first"
    """The first event of the journal."""
    LAST = "last"
    """The last one."""


class Moment(NamedTuple):
    """A time: microseconds from ``base``, before the last event or after one of the others."""

    base: MomentBase
    microseconds: int

    def __str__(self) -> str:
        if self.base is MomentBase.EPOCH:
            moment = _EPOCH + timedelta(microseconds=self.microseconds)
            return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
        return f"{'+' if self.base is MomentBase.FIRST else '-'}{self.microseconds}us"


class JournalTimes(NamedTuple):
    """The times of a journal's first and last event, µs since the epoch."""

    first: int
    last: int

    def resolve(self, moment: Moment) -> int:
        """A moment as such a time."""
        if moment.base is MomentBase.EPOCH:
            return moment.microseconds
        return (
            self.first + moment.microseconds
            if moment.base is MomentBase.FIRST
            else self.last - moment.microseconds
        )


class Duration(NamedTuple):
    """A length of time, in nanoseconds."""

    nanoseconds: int

    def __str__(self) -> str:
        return f"{self.nanoseconds}ns"


Literal = int | str | bytes | bool | Moment | Duration | None


def format_literal(value: Literal) -> str:
    """A value as an expression has it."""
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
    """Make a time: ISO 8601, or ``-5m`` before the last event, or ``+5m`` after the first.

    Without a zone it is UTC. Raises ExpressionError.
    """
    found = try_parse_moment(text.strip())
    if found is None:
        raise ExpressionError(f"{text!r} is no time: 2026-11-21T10:00:00Z, -5m, +1h30m", text, 0)
    return found


def try_parse_moment(text: str) -> Moment | None:
    """The same, and None where it is no time."""
    if text[:1] in ("+", "-") and re.fullmatch(DURATION_PATTERN, text[1:], re.ASCII):
        return Moment(
            MomentBase.FIRST if text[0] == "+" else MomentBase.LAST,
            parse_duration(text[1:]) // 1000,
        )
    try:
        found = datetime.fromisoformat(text)
        found = found if found.tzinfo else found.replace(tzinfo=UTC)
        micros = (found - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        return None
    return Moment(MomentBase.EPOCH, micros) if micros >= 0 else None


def parse_duration(text: str) -> int:
    """A length of time, which looks like one."""
    total = 0
    for number, unit in _PIECE.findall(text):
        whole, _, part = number.partition(".")
        total += int(whole) * _UNIT_NANOSECONDS[unit]
        total += int(part) * _UNIT_NANOSECONDS[unit] // 10 ** len(part) if part else 0
    return total
