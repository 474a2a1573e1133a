"""The tape: one door through which a guest hears and speaks, recording and replaying alike.

A call asks the tape for what the guest is told, tells it what the guest did, and does through it
what reaches the host. While recording, the tape appends; while replaying, it answers from the
journal and compares. Where the journal ends the tape turns to recording, and the guest goes on
from there: that is all there is to resuming.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

from journal.errors import Divergence, NotResumable
from journal.events import BY_TAG, codec
from journal.events.inputs import ClockRead, HostCall, HostResult
from journal.events.memory import MemoryPages
from journal.events.process import ParentLink, Seal, SessionStart
from journal.events.snapshots import DescriptorPositions, DirectoryListing, SafePoint, Snapshot
from journal.events.streams import StreamDelivered, StreamOpened
from journal.events.threads import GlobalsSet, SetThread, TableSet


class Batch(NamedTuple):
    """Neighbouring frames to replay, column by column; times in microseconds since the epoch."""

    seqs: Sequence[int]
    tags: Sequence[int]
    payloads: Sequence[bytes]
    times: Sequence[int]


Row = tuple[int, int, bytes, int]


class Sink(Protocol):
    """What a tape needs of a journal's writer."""

    @property
    def time(self) -> int:
        """Of the latest frame, in microseconds since the epoch."""

    def append_frame(self, tag: int, payload: bytes) -> int:
        """Append and return the sequence number."""


#: Events about the recording itself: a replay passes over them.
MARKS = frozenset(
    cls.tag
    for cls in (
        *(SessionStart, StreamDelivered, StreamOpened, ParentLink, Seal),
        *(SafePoint, MemoryPages, GlobalsSet, TableSet, SetThread),
        *(DescriptorPositions, DirectoryListing, Snapshot),
    )
)

_CLOCK = ClockRead.tag
_pack_result = codec.packer(HostResult)
_unpack_result = codec.unpacker(HostResult)
_result_prefix = {call: bytes([call]) for call in HostCall}

#: What a host directory answered: an errno, and a value that the call defines.
Answer = tuple[int, bytes]

Tell = Callable[[int, bytes], int]
Ask = Callable[[int, bytes, Callable[[], bytes]], bytes]


class Tape:
    """Records what passes, or replays it, and turns from one to the other by itself.

    ``recorded`` is what to replay first. ``on_mark`` sees the marks that a replay passes over: tag,
    payload and time, in order, but before the guest comes to where they stand.
    ``on_live`` is called once, when the journal has been replayed to its end and the guest is
    about to go on; ``barrier`` returns when an effect on the host may happen.
    """

    def __init__(
        self,
        sink: Sink,
        recorded: Iterator[Batch] | None = None,
        *,
        keep_inputs: bool = True,
        on_mark: Callable[[int, bytes, int], None] = lambda tag, payload, time: None,
        on_live: Callable[[], None] = lambda: None,
        barrier: Callable[[], None] = lambda: None,
        live: "tuple[Tell, Ask] | None" = None,
    ) -> None:
        self._recorded = recorded or iter(())
        self._rows: Iterator[Row] = iter(())
        self._row: Row | None = None
        self._on_mark, self._on_live, self._barrier = on_mark, on_live, barrier
        self.replaying = recorded is not None
        self.last_time = 0  # of the latest replayed event, in µs
        self.last_heard = -1  # the number of the event that the guest was told last, in a replay
        self._last_clock = b""
        self._live = live or _recording(self, sink, keep_inputs=keep_inputs)
        self.told_seq = -1  # the number of what the guest did last
        self.tell, self.ask = self._live
        if self.replaying:
            self.tell, self.ask = self._tell_again, self._ask_again

    # ``tell(tag, payload)``: the guest did this. Returns its time in microseconds, the same in
    # every replay. ``ask(tag, prefix, live)``: the payload that tells the guest something;
    # ``prefix`` is how it begins whatever the answer, ``live`` makes it when there is none yet.

    @property
    def told_monotonic(self) -> int:
        """What the monotonic clock said last in a replay, in nanoseconds."""
        return int.from_bytes(self._last_clock[1:], "little")

    def start(self) -> None:
        """Begin: with nothing to replay, the guest is live at once."""
        if self.replaying:
            self._load()

    @contextmanager
    def lent(self, tell: Tell, ask: Ask) -> Iterator[None]:
        """Let others hear and answer meanwhile, who know what was recorded: see ``folding``."""
        kept = self.tell, self.ask, self.replaying
        self.tell, self.ask, self.replaying = tell, ask, True
        try:
            yield
        finally:
            self.tell, self.ask, self.replaying = kept

    def coming(self, tag: int) -> bytes | None:
        """The payload of the event that a replay comes to next, if it is of this kind."""
        row = self._row if self.replaying else None
        return row[2] if row is not None and row[1] == tag else None

    def act(
        self,
        tag: int,
        effect: bytes,
        call: HostCall,
        fd: int,
        perform: Callable[[bool], Answer],
    ) -> Answer:
        """Do something to the host: intent first, then the barrier, the deed, its answer.

        ``perform(again)`` does it; ``again`` says that a crash came between the intent and the
        answer, so that it may have been done already.
        """
        was_replaying = self.replaying
        self.tell(tag, effect)
        if self.replaying:
            return self.answer(call, fd, lambda: perform(False))
        self._barrier()
        return self.answer(call, fd, lambda: perform(was_replaying))

    def answer(self, call: HostCall, fd: int, live: Callable[[], Answer]) -> Answer:
        """What a host directory says to ``call`` on ``fd``."""

        def payload() -> bytes:
            errno, value = live()
            return _pack_result(call, fd, errno, value)

        told = self.ask(HostResult.tag, _result_prefix[call] + fd.to_bytes(4, "little"), payload)
        _, _, errno, value = _unpack_result(told)
        return errno, value

    def _tell_again(self, tag: int, payload: bytes) -> int:
        assert self._row is not None
        self.told_seq, found_tag, found, time = self._row
        if found_tag != tag or found != payload:
            raise self._divergence(describe(tag, payload))
        row = self._row = next(self._rows, None)
        if row is None:
            self._load()
        return time

    def _ask_again(self, tag: int, prefix: bytes, live: Callable[[], bytes]) -> bytes:
        assert self._row is not None
        self.last_heard, found_tag, found, _ = self._row
        if found_tag != tag or not found.startswith(prefix):
            raise self._divergence(f"ask for {BY_TAG[tag].__name__}")
        if tag == _CLOCK and found[0]:
            self._last_clock = found
        row = self._row = next(self._rows, None)
        if row is None:
            self._load()
        return found

    def _load(self) -> None:
        """Take the next batch that has something for the guest; without one, turn live."""
        for batch in self._recorded:
            self.last_time = batch.times[-1]
            strange = set(batch.tags) - BY_TAG.keys()
            if strange:
                raise NotResumable(
                    f"the journal has events of the unknown kind {min(strange)}: a newer version "
                    "of journal has to resume it"
                )
            rows: Iterator[Row] = zip(*batch, strict=True)
            if not MARKS.isdisjoint(batch.tags):
                rows = self._without_marks(rows)
            self._rows, self._row = rows, next(rows, None)
            if self._row is not None:
                return
        self.replaying = False
        self.tell, self.ask = self._live
        self._on_live()

    def _without_marks(self, rows: Iterator[Row]) -> Iterator[Row]:
        kept = []
        for row in rows:
            if row[1] in MARKS:
                self._on_mark(*row[1:])
            else:
                kept.append(row)
        return iter(kept)

    def _divergence(self, actual: str) -> Divergence:
        assert self._row is not None
        seq, tag, payload, _ = self._row
        return Divergence(seq, describe(tag, payload), actual)


def _recording(tape: Tape, sink: Sink, *, keep_inputs: bool) -> tuple[Tell, Ask]:
    """How a live guest tells and asks. Closures, because most of a call's time is lookups."""
    append = sink.append_frame

    def tell(tag: int, payload: bytes) -> int:
        tape.told_seq = append(tag, payload)
        return sink.time

    def ask(tag: int, prefix: bytes, live: Callable[[], bytes]) -> bytes:
        payload = live()
        append(tag, payload)
        return payload

    def ask_only(tag: int, prefix: bytes, live: Callable[[], bytes]) -> bytes:
        return live()

    return tell, ask if keep_inputs else ask_only


def describe(tag: int, payload: bytes) -> str:
    """An event as one readable line."""
    return repr(codec.decode(tag, payload))
