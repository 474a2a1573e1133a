"""Options that select events, and the query that they build."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from journaltool.options import common
from journaltool.output import terminal

if TYPE_CHECKING:
    from journal.errors import ExpressionError
    from journal.events.definition import Event, Group
    from journal.query.literals import Moment
    from journal.query.selection import Query

EXCERPT_SIZE = 70
"""Largest number of characters of an expression in an error message."""


def _complete_groups(incomplete: str) -> list[str]:
    from journal.events.definition import Group

    return [group.value for group in Group if group.value.startswith(incomplete.lower())]


def _complete_kinds(incomplete: str) -> list[str]:
    from journal.query.fields import KINDS

    choices = KINDS if incomplete != incomplete.lower() else map(str.lower, KINDS)
    return [kind for kind in choices if kind.startswith(incomplete)]


GroupOption = Annotated[
    list[str] | None,
    typer.Option(
        "--group",
        metavar="NAME",
        help="Select kinds of this group. Repeatable.",
        autocompletion=_complete_groups,
    ),
]
KindOption = Annotated[
    list[str] | None,
    typer.Option(
        "--kind",
        "--tag",
        metavar="NAME",
        help="Select events of this kind or tag. Repeatable.",
        autocompletion=_complete_kinds,
    ),
]
SeqRangeOption = Annotated[
    str | None,
    typer.Option(
        "--numbers", metavar="A-B", help="Select sequence numbers A to B. A or B may be omitted."
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryArguments:
    """Options that select events by their properties, besides group, kind and number."""

    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Select events at or after this time: 2026-11-21T10:00 (UTC), -5m (before the "
            "last event) or +90s (after the first event).",
        ),
    ] = None
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Select events before this time.")
    ] = None
    fd: Annotated[
        list[int] | None,
        typer.Option(
            click_type=common.Number(min=0),
            metavar="N",
            help="Select events of this descriptor. Repeatable.",
        ),
    ] = None
    path: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB",
            help="Select events of files with matching absolute guest paths: * matches within a "
            "name, ** across names. Repeatable.",
        ),
    ] = None
    where: Annotated[
        str | None,
        typer.Option(
            metavar="EXPR",
            help="Select events by an expression, such as 'size > 4Ki and not fd in (1, 2)'.",
        ),
    ] = None

    def build(
        self,
        groups: Sequence[str] | None,
        names: Sequence[str] | None,
        numbers: str | None = None,
        *,
        kinds: "Mapping[int, type[Event]]",
    ) -> "Query":
        """Return the query of all options, or raise ``typer.BadParameter``.

        ``kinds`` are the kinds of the journal by tag, which ``names`` and the expression can name.
        """
        from journal.errors import ExpressionError
        from journal.query.fields import Vocabulary
        from journal.query.parser import parse
        from journal.query.selection import Query

        start, stop = _parse_seq_range(numbers)
        vocabulary = Vocabulary(kinds)
        try:
            tree = parse(self.where, vocabulary) if self.where is not None else None
        except ExpressionError as error:
            raise typer.BadParameter(f"{error.reason}\n{point_at_error(error)}") from None
        return Query(
            groups=frozenset(map(_parse_group, groups or ())),
            tags=frozenset(tag for name in names or () for tag in _parse_kind(name, kinds)),
            start=start,
            stop=stop,
            since=_parse_time(self.since),
            until=_parse_time(self.until),
            descriptors=frozenset(self.fd or ()),
            paths=tuple(map(_check_glob, self.path or ())),
            where=tree,
            vocabulary=vocabulary,
        )


def point_at_error(error: "ExpressionError") -> str:
    """Return the wrong part of an expression, with a caret under the error position."""
    start = max(0, min(error.position - EXCERPT_SIZE // 2, len(error.text) - EXCERPT_SIZE))
    shown = error.text[start : start + EXCERPT_SIZE]
    # Each character becomes one character, so that the caret stays below its position.
    line = "".join(each if each.isprintable() else "?" for each in shown)
    return f"  {line}\n  {' ' * (error.position - start)}^"


def _parse_seq_range(text: str | None) -> tuple[int, int | None]:
    if text is None:
        return 0, None
    first, dash, last = text.partition("-")
    parts = [part for part in (first, last) if part]
    if not parts or not all(part.isascii() and part.isdigit() for part in parts):
        raise typer.BadParameter(
            f"{text!r} is not a range of sequence numbers: write 5-20, 5-, -20 or 7"
        )
    start = int(first or 0)
    stop = int(last) + 1 if last else None if dash else start + 1
    if stop is not None and stop <= start:
        raise typer.BadParameter(
            f"the range {text!r} is empty: its first sequence number is greater than the last"
        )
    return start, stop


def _parse_time(text: str | None) -> "Moment | None":
    if text is None:
        return None
    from journal.errors import ExpressionError
    from journal.query.literals import parse_moment

    try:
        return parse_moment(text)
    except ExpressionError as error:
        raise typer.BadParameter(error.reason) from None


def _check_glob(text: str) -> str:
    from journal.query.patterns import PatternError, compile_glob

    try:
        compile_glob(text)
    except PatternError as error:
        raise typer.BadParameter(f"{terminal.quote(text)}: {error.reason}") from None
    return text


def _parse_group(name: str) -> "Group":
    from journal.events.definition import Group
    from journal.query.fields import GROUPS

    if name.lower() not in GROUPS:
        choices = ", ".join(group.value for group in Group)
        raise typer.BadParameter(f"{name!r} is not a group: choose from {choices}")
    return GROUPS[name.lower()]


def _parse_kind(name: str, kinds: "Mapping[int, type[Event]]") -> list[int]:
    """Return the tags of the kinds with this name, or the tag itself."""
    from difflib import get_close_matches

    from journal.format.frame import TAG_MAX, TAG_MIN

    if name.isascii() and name.isdigit() and TAG_MIN <= int(name) <= TAG_MAX:
        return [int(name)]
    found = [tag for tag, kind in kinds.items() if kind.__name__.lower() == name.lower()]
    if found:
        return found
    by_name = {kind.__name__.lower(): kind.__name__ for kind in kinds.values()}
    near = get_close_matches(name.lower(), by_name, 1)
    hint = f"did you mean {by_name[near[0]]}?" if near else "inspect prints the kinds of a journal"
    raise typer.BadParameter(f"{name!r} is not a kind of event: {hint}")
