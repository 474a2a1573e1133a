"""Record and replay of everything that passes between a guest and its host.

Every host function requests its inputs from the tape, records its effects on the tape, and changes
the host through the tape. While recording, the tape appends events. While replaying, the tape
returns inputs from the journal and compares effects with the journal. At the end of the journal
the tape switches to recording and the guest continues; this is the whole mechanism of a resume.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

from journal.errors import Divergence, NotResumable
from journal.events import BY_TAG, codec
from journal.events.inputs import ClockRead, HostCall, HostResult, SignalDelivered
from journal.events.tag_sets import KNOWN, RECORDING
from journal.wasi_abi import Errno, WasiError


class Batch(NamedTuple):
    """Consecutive frames to replay, as columns; times in microseconds since the epoch."""

    seqs: Sequence[int]
    tags: Sequence[int]
    payloads: Sequence[bytes]
    times: Sequence[int]


TapeRow = tuple[int, int, bytes, int]
"""Sequence number, tag, payload and time of one frame of a batch."""


def check_between(batches: Iterable[Batch], check: Callable[[], None]) -> Iterator[Batch]:
    """Yield the batches, and call ``check`` before each, because reading them may take long."""
    for batch in batches:
        check()
        yield batch


class TapeSink(Protocol):
    """The part of a journal writer that a tape uses."""

    @property
    def time(self) -> int:
        """Time of the latest frame, in microseconds since the epoch."""

    def append_frame(self, tag: int, payload: bytes) -> int:
        """Append a frame and return its sequence number."""


_CLOCK = ClockRead.tag
_SIGNAL = SignalDelivered.tag
_pack_result = codec.make_packer(HostResult)
_unpack_result = codec.make_unpacker(HostResult)
_result_prefix = {call: bytes([call]) for call in HostCall}

#: Result of a host operation: an errno, and a value whose meaning depends on the call.
HostReply = tuple[int, bytes]

RecordEffect = Callable[[int, bytes], int]
RequestInput = Callable[[int, bytes, Callable[[], bytes]], bytes]


class Tape:
    """A record/replay switch that turns from replaying to recording at the end of the journal.

    ``recorded`` holds the frames to replay first. ``on_recording_event`` receives tag, payload and
    time of each recording event that a replay skips, in order, before the guest reaches its
    position. ``on_live`` is called once, when the journal has been replayed to its end and the
    guest is about to continue. ``barrier`` returns when an effect on the host may happen. ``live``
    replaces the functions that record.

    ``record_effect(tag, payload)`` records an effect of the guest. It returns the time of the
    effect in microseconds since the epoch, which is the same in every replay. ``request_input(tag,
    prefix, live)`` returns the payload of an input event. ``prefix`` is the start of the payload
    that does not depend on the input. ``live`` produces the payload if none is recorded.
    """

    def __init__(
        self,
        sink: TapeSink,
        recorded: Iterator[Batch] | None = None,
        *,
        keep_inputs: bool = True,
        on_recording_event: Callable[[int, bytes, int], None] = lambda tag, payload, time: None,
        on_live: Callable[[], None] = lambda: None,
        barrier: Callable[[], None] = lambda: None,
        live: "tuple[RecordEffect, RequestInput] | None" = None,
    ) -> None:
        self._recorded = recorded or iter(())
        self._rows: Iterator[TapeRow] = iter(())
        self._row: TapeRow | None = None
        self._on_recording_event, self._on_live = on_recording_event, on_live
        self._barrier = barrier
        self.replaying = recorded is not None
        self.last_time = 0  # of the latest replayed event, in µs
        self.last_input_seq = -1  # of the latest input event of the replay
        self.recording_seq = -1  # of the latest recording event of the replay
        self._last_clock = b""
        self._live = live or _make_recorder(self, sink, keep_inputs=keep_inputs)
        self.last_effect_seq = -1
        # Whether this SignalDelivered of a replay ended a wait of the present call.
        self.ends_wait: Callable[[bytes], bool] = lambda payload: False
        self.record_effect, self.request_input = self._live
        if self.replaying:
            self.record_effect, self.request_input = self._replay_effect, self._replay_input

    @property
    def last_monotonic(self) -> int:
        """Latest reading of the monotonic clock in a replay, in nanoseconds."""
        return int.from_bytes(self._last_clock[1:], "little")

    def record_to(self, sink: TapeSink, *, keep_inputs: bool = True) -> None:
        """Continue live, and record in another sink. No event is replayed any more."""
        self._live = _make_recorder(self, sink, keep_inputs=keep_inputs)
        self.replaying = False
        self.record_effect, self.request_input = self._live

    def start(self) -> None:
        """Load the first batch; without frames to replay, the guest is live at once."""
        if self.replaying:
            self._load()

    @contextmanager
    def substitute(
        self, record_effect: RecordEffect, request_input: RequestInput
    ) -> Iterator[None]:
        """Replace both functions inside the context. ``snapshot.rebuild`` uses this."""
        saved = self.record_effect, self.request_input, self.replaying
        self.record_effect, self.request_input, self.replaying = record_effect, request_input, True
        try:
            yield
        finally:
            self.record_effect, self.request_input, self.replaying = saved

    def peek(self, tag: int) -> bytes | None:
        """Return the payload of the next event of a replay if the event has this tag."""
        row = self._row if self.replaying else None
        return row[2] if row is not None and row[1] == tag else None

    def perform(
        self,
        tag: int,
        effect: bytes,
        call: HostCall,
        fd: int,
        action: Callable[[bool], HostReply],
        *,
        changes_host: bool = True,
    ) -> HostReply:
        """Change the host: record the intent, pass the barrier, act, record the result.

        An action that does not change the host passes no barrier. ``action(again)`` performs the
        change. ``again`` is true if a crash came between the intent and its result, so that the
        change may already have happened.
        """
        was_replaying = self.replaying
        self.record_effect(tag, effect)
        if self.replaying:
            return self.request_host_result(call, fd, lambda: action(False))
        if changes_host:
            self._barrier()
        return self.request_host_result(call, fd, lambda: action(was_replaying))

    def request_host_result(
        self, call: HostCall, fd: int, live: Callable[[], HostReply]
    ) -> HostReply:
        """Return the result of the host operation ``call`` on ``fd``."""

        def make_payload() -> bytes:
            try:
                errno, value = live()
            except WasiError as error:
                if error.errno != Errno.INTR:
                    raise
                errno, value = error.errno, b""
            return _pack_result(call, fd, errno, value)

        prefix = _result_prefix[call] + fd.to_bytes(4, "little")
        payload = self.request_input(HostResult.tag, prefix, make_payload)
        _, _, errno, value = _unpack_result(payload)
        return errno, value

    def make_divergence(self, actual: str) -> Divergence:
        """Return the error of a guest that does not do what its latest input event says."""
        return Divergence(self.last_input_seq, "what the event says", actual)

    def _replay_effect(self, tag: int, payload: bytes) -> int:
        assert self._row is not None
        self.last_effect_seq, recorded_tag, recorded, time = self._row
        if recorded_tag != tag or recorded != payload:
            raise self._divergence(describe_event(tag, payload))
        row = self._row = next(self._rows, None)
        if row is None:
            self._load()
        return time

    def _replay_input(self, tag: int, prefix: bytes, live: Callable[[], bytes]) -> bytes:
        assert self._row is not None
        self.last_input_seq, recorded_tag, recorded, _ = self._row
        if recorded_tag != tag or not recorded.startswith(prefix):
            if recorded_tag == _SIGNAL and self.ends_wait(recorded):
                raise WasiError(Errno.INTR)
            raise self._divergence(f"request for {BY_TAG[tag].__name__}")
        if tag == _CLOCK and recorded[0]:
            self._last_clock = recorded
        row = self._row = next(self._rows, None)
        if row is None:
            self._load()
        return recorded

    def _load(self) -> None:
        """Load the next batch with events for the guest; switch to recording if none is left."""
        for batch in self._recorded:
            self.last_time = batch.times[-1]
            unknown = set(batch.tags) - KNOWN
            if unknown:
                raise NotResumable(
                    f"the journal has events of the unknown kind {min(unknown)}: resume it with a "
                    "newer version of journal"
                )
            rows: Iterator[TapeRow] = zip(*batch, strict=True)
            if not RECORDING.isdisjoint(batch.tags):
                rows = self._without_recording_events(rows)
            self._rows, self._row = rows, next(rows, None)
            if self._row is not None:
                return
        self.replaying = False
        self.record_effect, self.request_input = self._live
        self._on_live()

    def _without_recording_events(self, rows: Iterator[TapeRow]) -> Iterator[TapeRow]:
        """Yield the rows of the guest, and report each other row after the row before it."""
        for row in rows:
            if row[1] in RECORDING:
                self.recording_seq = row[0]
                self._on_recording_event(*row[1:])
            else:
                yield row

    def _divergence(self, actual: str) -> Divergence:
        assert self._row is not None
        seq, tag, payload, _ = self._row
        return Divergence(seq, describe_event(tag, payload), actual)


def _make_recorder(
    tape: Tape, sink: TapeSink, *, keep_inputs: bool
) -> tuple[RecordEffect, RequestInput]:
    """Return the two functions of a live guest.

    They are closures, because attribute lookups take most of the time of a host call.
    """
    append = sink.append_frame

    def record_effect(tag: int, payload: bytes) -> int:
        tape.last_effect_seq = append(tag, payload)
        return sink.time

    def request_input(tag: int, prefix: bytes, live: Callable[[], bytes]) -> bytes:
        payload = live()
        append(tag, payload)
        return payload

    def request_unrecorded(tag: int, prefix: bytes, live: Callable[[], bytes]) -> bytes:
        return live()

    return record_effect, request_input if keep_inputs else request_unrecorded


def describe_event(tag: int, payload: bytes) -> str:
    """Return an event as one readable line."""
    return repr(codec.decode(tag, payload))
