"""Declarations of the kinds of application events in a journal."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from journal._arguments import check_each, check_type
from journal.errors import FormatError
from journal.format.block import BlockHeader, compute_tag_bitmap
from journal.log import scan
from journal.log.segment_files import SegmentFiles

if TYPE_CHECKING:
    from journal.events.application import ApplicationKind
    from journal.events.definition import Event
    from journal.format.seal_key import SealKey


_TAG = 136
"""Tag of ApplicationKind. The class is slow to import."""
_BITMAP = compute_tag_bitmap({_TAG})


def check_kinds(kinds: "Iterable[type[Event]]") -> "tuple[type[Event], ...]":
    """Return the argument ``kinds`` of a reader or writer: classes of application events."""
    classes = check_each(
        "kinds", kinds, lambda name, kind: check_type(name, kind, type), what="classes"
    )
    if classes:
        from journal.events.declared_kinds import check_declarations  # Slow to import.

        check_declarations(classes, {})
    return tuple(classes)


class Declarations(NamedTuple):
    """Declarations of application events in a journal.

    ``classes`` are the classes of the declared kinds by tag, ``first`` the first declaration of
    each tag, and ``void`` the reasons why declarations do not apply.
    """

    classes: "dict[int, type[Event]]"
    first: "dict[int, ApplicationKind]"
    void: list[str]

    @property
    def kinds(self) -> "Mapping[int, type[Event]]":
        """All kinds of the journal by tag: those of this project, and the declared ones."""
        from journal.events import BY_TAG

        return BY_TAG | self.classes


def read_declarations(files: SegmentFiles, classes: "Iterable[type[Event]]" = ()) -> Declarations:
    """Return the declarations of a journal. Damage is skipped: other reads report it.

    Only headers are read, and the few blocks that can have a declaration.
    """
    payloads = _iterate_payloads(files)
    first = next(payloads, None)
    if first is None and not classes:
        return Declarations({}, {}, [])  # The classes of events are slow to import.
    from journal.events.declared_kinds import collect_declarations

    found = _decode_all(payloads if first is None else chain((first,), payloads))
    return Declarations(*collect_declarations(found, classes))


def read_declared(path: Path, key: "SealKey | None" = None) -> "dict[int, ApplicationKind]":
    """Return the first declaration of each tag in the journal at ``path``."""
    with closing(SegmentFiles(path, key=key)) as files:
        return read_declarations(files).first


def _decode_all(payloads: Iterable[bytes]) -> "Iterator[ApplicationKind]":
    from journal.events.application import ApplicationKind
    from journal.events.codec import make_unpacker

    unpack = make_unpacker(ApplicationKind)
    for payload in payloads:
        with suppress(FormatError):
            number, name, fields = unpack(payload)
            yield ApplicationKind(number=number, name=name, fields=fields)


def _iterate_payloads(files: SegmentFiles) -> Iterator[bytes]:
    """Yield the payloads of all declarations."""

    def select_body(_: scan.Segment, header: BlockHeader, first_seq: int) -> bool:
        return bool(header.tag_bitmap & _BITMAP)

    with suppress(FormatError):
        for item in scan.scan_files(files.sources(files.names()), select_body):
            if isinstance(item, scan.ScannedBlock) and item.is_selected:
                with suppress(FormatError):
                    block = item.block()
                    yield from (payload for _, _, payload in block.rows(block.select({_TAG})))
