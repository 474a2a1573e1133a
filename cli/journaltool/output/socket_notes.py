"""Notes on the events of sockets for inspect and tail: addresses, and the bytes that passed.

An event has only the descriptor of its socket. The notes follow the sockets from the start of the
journal, by a reader of their own, and only if an event of a socket is shown.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

if TYPE_CHECKING:
    from journal import Reader
    from journal.events.definition import Event
    from journal.events.wire_types import SocketAddress
    from journal.export.redaction import Redaction
    from journal.replay.traffic import SocketTracker, TrackedSocket, Traffic

_DESCRIPTORS = ("socket_fd", "fd", "original_fd", "old_fd")
"""Names of the fields with the descriptor of the socket, the first that an event has."""


class SocketNote(NamedTuple):
    """Note on one event: the addresses of its socket, and the bytes that passed."""

    local: str = ""
    peer: str = ""
    sent: int | None = None
    received: int | None = None

    @property
    def parts(self) -> dict[str, str | int]:
        """Return the parts that are known."""
        return {
            name: value
            for name, value in self._asdict().items()
            if value is not None and value != ""
        }

    def as_text(self) -> str:
        """Return the note as the end of a line."""
        return "".join(f"  {name}={value}" for name, value in self.parts.items())


NO_NOTE = SocketNote()


class SocketNotes:
    """Notes on the events of a journal. Events come in order, but some may be left out."""

    def __init__(self, journal: Path, redaction: "Redaction | None" = None) -> None:
        self._journal, self._redaction = journal, redaction
        self._tracker: SocketTracker | None = None
        self._reader: Reader | None = None
        self._rows: Iterator[tuple[int, int, bytes]] = iter(())
        self._row: tuple[int, int, bytes] | None = None
        self._seq, self._note = -1, NO_NOTE

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._reader is not None:
            self._reader.close()

    def describe(self, seq: int, tag: int, payload: bytes) -> SocketNote:
        """Return the note on an event; it is empty if the event belongs to no known socket."""
        if seq != self._seq:
            self._note = self._find_note(seq, tag, payload)
            self._seq = seq
        return self._note

    def _find_note(self, seq: int, tag: int, payload: bytes) -> SocketNote:
        from journal.events import tag_sets

        if tag not in tag_sets.TRAFFIC:
            return NO_NOTE
        if self._reader is None:
            self._open()
        if self._tracker is None:
            if tag not in tag_sets.SOCKET_OPENINGS:
                return NO_NOTE
            self._start_tracking()  # A writer has added the first socket.
        assert self._tracker is not None
        while self._row is not None and self._row[0] < seq:
            self._tracker.add(*self._row[1:])
            self._row = next(self._rows, None)
        if self._row is not None and self._row[0] == seq:
            self._row = next(self._rows, None)
        return self._make_note(self._tracker, tag, payload)

    def _open(self) -> None:
        """Start to read the events of sockets, if the journal has any."""
        from journal import Reader
        from journal.events import tag_sets
        from journal.log import RecoveryMode

        self._reader = reader = Reader(self._journal, mode=RecoveryMode.SALVAGE)
        opening = tag_sets.SOCKET_OPENINGS
        if any(not opening.isdisjoint(block.tags) for block in reader.blocks(0, opening)):
            self._start_tracking()
            self._rows = _read_rows(reader)
            self._row = next(self._rows, None)

    def _start_tracking(self) -> None:
        from journal.replay.traffic import SocketTracker  # Slow to import.

        self._tracker = SocketTracker()

    def _make_note(self, tracker: "SocketTracker", tag: int, payload: bytes) -> SocketNote:
        from journal.errors import FormatError
        from journal.events import codec

        try:
            event: Any = codec.decode(tag, payload)
        except FormatError:
            return NO_NOTE
        before = _find_socket(tracker, event)
        happened = tracker.add_event(event)
        socket = before or _find_socket(tracker, event)
        if socket is None or hasattr(event, "local_addr"):  # The event shows the addresses itself.
            return NO_NOTE
        peer = socket.peer or next((one.peer for one in happened), None)
        return SocketNote(self._format(socket.local), self._format(peer), *_count_bytes(happened))

    def _format(self, address: "SocketAddress | None") -> str:
        from journal.events.wire_types import Secret, format_address

        if address is None:
            return ""
        if self._redaction is not None and Secret.ADDRESSES in self._redaction.secrets:
            address = self._redaction.redact_value(address)
        return format_address(address)


def _read_rows(reader: "Reader") -> Iterator[tuple[int, int, bytes]]:
    from journal.events import tag_sets

    for block in reader.blocks(0, tag_sets.TRAFFIC):
        yield from block.rows(block.select(tag_sets.TRAFFIC))


def _find_socket(tracker: "SocketTracker", event: "Event") -> "TrackedSocket | None":
    for name in _DESCRIPTORS:
        if name in event.names:
            return tracker.find(getattr(event, name))
    return None


def _count_bytes(happened: "list[Traffic]") -> tuple[int | None, int | None]:
    """Return the numbers of sent and of received bytes."""
    sizes = {one.kind.value: one.size for one in happened}
    return sizes.get("sent"), sizes.get("received")
