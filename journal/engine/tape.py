"""The tape: one door through which a guest hears and speaks, recording and replaying alike.

A call asks the tape for what the guest is told, tells it what the guest did, and does through it
what reaches the host. While recording, the tape appends; while replaying, it answers from the
journal and compares. Where the journal ends the tape turns to recording, and the guest goes on
from there: that is all there is to resuming.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from journal import codec
from journal.errors import Divergence, NotResumable
from journal.events import BY_TAG
from journal.events.inputs import ClockRead, HostCall, HostResult
from journal.events.process import ParentLink, Seal, SessionStart
from journal.events.snapshots import Snapshot
from journal.events.streams import StreamDelivered, StreamOpened


class Recorded(NamedTuple):
    """One frame to replay; time in microseconds since the epoch."""

    seq: int
    tag: int
    payload: bytes
    time: int


class Sink(Protocol):
    """What a tape needs of a journal's writer."""

    @property
    def time(self) -> int:
        """Of the latest frame, in microseconds since the epoch."""

    def append_frame(self, tag: int, payload: bytes) -> int:
        """Append and return the sequence number."""


#: Events about the recording itself: a replay passes over them.
MARKS = frozenset(
    cls.tag for cls in (SessionStart, StreamDelivered, StreamOpened, ParentLink, Seal, Snapshot)
)

_CLOCK = ClockRead.tag
_pack_result = codec.packer(HostResult)
_unpack_result = codec.unpacker(HostResult)
_result_prefix = {call: bytes([call]) for call in HostCall}

#: What a host directory answered: an errno, and a value that the call defines.
Answer = tuple[int, bytes]


class Tape:
    """Records what passes, or replays it, and turns from one to the other by itself.

    ``recorded`` is what to replay first. ``on_mark`` sees the marks that a replay passes over.
    ``on_live`` is called once, when the journal has been replayed to its end and the guest is
    about to go on; ``barrier`` returns when an effect on the host may happen.
    """

    def __init__(
        self,
        sink: Sink,
        recorded: Iterator[Recorded] | None = None,
        *,
        keep_inputs: bool = True,
        on_mark: Callable[[Recorded], None] = lambda mark: None,
        on_live: Callable[[], None] = lambda: None,
        barrier: Callable[[], None] = lambda: None,
    ) -> None:
        self._sink = sink
        self._append = sink.append_frame
        self._recorded = recorded or iter(())
        self._next: Recorded | None = None
        self._keep_inputs = keep_inputs
        self._on_mark, self._on_live, self._barrier = on_mark, on_live, barrier
        self.replaying = recorded is not None
        self.last_time = 0  # of the latest replayed event, in µs
        self.told_monotonic = 0  # what the monotonic clock said last, in a replay
        self.tell: Callable[[int, bytes], int] = self._tell_live
        self.ask: Callable[[int, bytes, Callable[[], bytes]], bytes] = self._ask_live
        if not keep_inputs:
            self.ask = self._ask_unkept
        if self.replaying:
            self.tell, self.ask = self._tell_again, self._ask_again

    # ``tell(tag, payload)``: the guest did this. Returns its time in microseconds, the same in
    # every replay. ``ask(tag, prefix, live)``: the payload that tells the guest something;
    # ``prefix`` is how it begins whatever the answer, ``live`` makes it when there is none yet.

    def start(self) -> None:
        """Begin: with nothing to replay, the guest is live at once."""
        if self.replaying:
            self._advance()

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

    def _tell_live(self, tag: int, payload: bytes) -> int:
        self._append(tag, payload)
        return self._sink.time

    def _ask_live(self, tag: int, prefix: bytes, live: Callable[[], bytes]) -> bytes:
        payload = live()
        self._append(tag, payload)
        return payload

    def _ask_unkept(self, tag: int, prefix: bytes, live: Callable[[], bytes]) -> bytes:
        return live()

    def _tell_again(self, tag: int, payload: bytes) -> int:
        found = self._next
        assert found is not None
        if found.tag != tag or found.payload != payload:
            raise self._divergence(found, tag, payload)
        self._advance()
        return found.time

    def _ask_again(self, tag: int, prefix: bytes, live: Callable[[], bytes]) -> bytes:
        found = self._next
        assert found is not None
        if found.tag != tag or not found.payload.startswith(prefix):
            raise self._divergence(found, tag, None)
        if tag == _CLOCK and found.payload[0]:
            self.told_monotonic = int.from_bytes(found.payload[1:], "little")
        self._advance()
        return found.payload

    def _advance(self) -> None:
        for found in self._recorded:
            self.last_time = found.time
            if found.tag in MARKS:
                self._on_mark(found)
                continue
            if found.tag not in BY_TAG:
                raise NotResumable(
                    f"event {found.seq} is of the unknown kind {found.tag}: a newer version of "
                    "journal has to resume this journal"
                )
            self._next = found
            return
        self._next = None
        self.replaying = False
        self.tell = self._tell_live
        self.ask = self._ask_live if self._keep_inputs else self._ask_unkept
        self._on_live()

    def _divergence(self, found: Recorded, tag: int, payload: bytes | None) -> Divergence:
        actual = BY_TAG[tag].__name__ if payload is None else describe(tag, payload)
        if payload is None:
            actual = f"ask for {actual}"
        return Divergence(found.seq, describe(found.tag, found.payload), actual)


def describe(tag: int, payload: bytes) -> str:
    """An event as one readable line."""
    return repr(codec.decode(tag, payload))
