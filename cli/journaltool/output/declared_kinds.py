"""Kinds of a journal by tag, including its declared kinds."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from journal.events.definition import Event


def read_kinds(journal: Path, tags: Iterable[int] | None = None) -> "Mapping[int, type[Event]]":
    """Return the kinds of a journal. A journal that cannot be read declares none.

    With ``tags``, the journal is read only if one of them is a tag of applications.
    """
    from journal import Reader
    from journal.errors import JournalError
    from journal.events import APPLICATION_TAGS, BY_TAG

    if tags is not None and APPLICATION_TAGS.isdisjoint(tags):
        return BY_TAG
    try:
        with Reader(journal) as reader:
            return reader.declarations().kinds
    except (JournalError, OSError):
        return BY_TAG
