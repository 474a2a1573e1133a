"""Naming pages that stand already instead of giving them again, while a journal is written."""

from typing import Protocol

from journal.events.memory import MemoryPages, PageKind
from journal.paging import REFERENCE_BACK_MAX, Reference, content_hash, given_in


class Sharing(Protocol):
    """Knows which pages stand in front of what is written next."""

    def find(self, seq: int, place: int, page: bytes) -> tuple[int, int] | None:
        """Where these bytes stand whole: event and index; None lets them be noted as standing here.

        They are what event ``seq`` has at index ``place``.
        """


def shortened(sharing: Sharing, seq: int, event: MemoryPages) -> MemoryPages:
    """Give what is to be event number ``seq`` with references where its pages stand already."""
    kinds, parts, is_other = bytearray(event.kinds), [], False
    for place, (_, kind, data) in enumerate(given_in(event)):
        found = sharing.find(seq, place, data) if kind is PageKind.WHOLE else None
        if found is None:
            parts.append(data)
            continue
        is_other = True
        kinds[place] = PageKind.SAME
        parts.append(Reference(seq - found[0], found[1], content_hash(data)).packed())
        assert 0 <= seq - found[0] <= REFERENCE_BACK_MAX
    if not is_other:
        return event
    return MemoryPages(
        memory=event.memory,
        size=event.size,
        numbers=event.numbers,
        kinds=bytes(kinds),
        data=b"".join(parts),
    )
