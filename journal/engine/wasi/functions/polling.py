"""``poll_oneoff``: sleeping, and waiting for standard input and channels."""

import struct
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.channel import (
    ALWAYS_WATCHED,
    NOT_READY,
    ByteChannel,
    ChannelWait,
    Readiness,
)
from journal.engine.wasi.descriptors import InputStream, OpenFile, OutputStream
from journal.events import codec
from journal.events.inputs import PollResult
from journal.events.wire_types import PAYLOAD_SIZE_MAX
from journal.wasi_abi import (
    CLOCK_ABSOLUTE,
    CLOCK_MONOTONIC,
    CLOCK_REALTIME,
    EVENT,
    EVENT_CLOCK,
    EVENT_READ,
    EVENT_WRITE,
    HANGUP,
    SUBSCRIPTION,
    Errno,
    MemoryFault,
    WasiError,
)

#: Largest count of subscriptions in one call. Their events fit into one event of the journal.
SUBSCRIPTIONS_MAX = 1 << 18
assert SUBSCRIPTIONS_MAX * EVENT.size < PAYLOAD_SIZE_MAX

_TO_READ, _TO_WRITE = Readiness.READABLE | Readiness.READ_HANGUP, Readiness.WRITABLE

_LENGTH = struct.Struct("<I")
_pack_result = codec.make_packer(PollResult)


class Subscription(NamedTuple):
    """One condition that the guest waits for.

    ``delay`` is the remaining time of a clock subscription in nanoseconds. ``flags`` are the
    flags of the event to report, except those of a channel.
    """

    userdata: int
    kind: int
    fd: int
    delay: int
    flags: int
    channel: ByteChannel | None = None

    @property
    def wanted(self) -> Readiness:
        """Return the events of the channel that the guest waits for."""
        return _TO_READ if self.kind == EVENT_READ else _TO_WRITE


def poll_oneoff(context: CallContext, pointer: int, events: int, count: int, result: int) -> None:
    """Wait until at least one of the subscribed events happens."""
    check_count(count)
    values = context.memory.unpack_many(SUBSCRIPTION, pointer, count)
    poll(context, values, events, count, result)


def find_polled(context: CallContext, pointer: int, count: int) -> tuple[int, ...]:
    """Return the descriptors that a call of ``poll_oneoff`` waits for; none for a wrong call."""
    if count > SUBSCRIPTIONS_MAX:
        return ()
    try:
        values = [*context.memory.unpack_many(SUBSCRIPTION, pointer, count)]
    except MemoryFault:
        return ()
    return tuple(fd for _, kind, fd, *_ in values if kind != EVENT_CLOCK)


def check_count(count: int) -> None:
    """Raise ``WasiError`` unless a call may have this number of subscriptions."""
    if not count or count > SUBSCRIPTIONS_MAX:
        raise WasiError(Errno.INVAL)


def poll(
    context: CallContext, values: Iterable[tuple[Any, ...]], events: int, count: int, result: int
) -> None:
    """Wait for ``count`` subscriptions, each with the values of ``SUBSCRIPTION``."""
    context.memory.check(events, count * EVENT.size)
    subscriptions = [_make_subscription(context, *subscription) for subscription in values]
    payload = context.tape.request_input(
        PollResult.tag, b"", lambda: _pack_result(_wait(context, subscriptions))
    )
    events_due = memoryview(payload)[_LENGTH.size :]
    if len(events_due) % EVENT.size or len(events_due) > count * EVENT.size:
        raise ValueError(
            f"recorded poll result has {len(events_due)} bytes: whole events of {EVENT.size} bytes "
            f"for {count} subscriptions are allowed"
        )
    context.memory.write(events, events_due)
    context.memory.write_u32(result, len(events_due) // EVENT.size)


def _make_subscription(
    context: CallContext,
    userdata: int,
    kind: int,
    source: int,
    timeout: int,
    precision: int,
    flags: int,
) -> Subscription:
    """Return a checked subscription; ``source`` is a clock id or a descriptor."""
    if kind == EVENT_CLOCK:
        if source not in (CLOCK_REALTIME, CLOCK_MONOTONIC) or flags & ~CLOCK_ABSOLUTE:
            raise WasiError(Errno.INVAL)
        if flags & CLOCK_ABSOLUTE:
            now = (
                context.clocks.realtime()
                if source == CLOCK_REALTIME
                else context.clocks.monotonic()
            )
            timeout = max(timeout - now, 0)
        elif context.wait_started is not None:  # The call was interrupted and is repeated.
            timeout = max(timeout - (time.monotonic_ns() - context.wait_started), 0)
        return Subscription(userdata, kind, 0, timeout, 0)
    if kind not in (EVENT_READ, EVENT_WRITE):
        raise WasiError(Errno.INVAL)
    allowed_types = (InputStream, OpenFile) if kind == EVENT_READ else (OutputStream, OpenFile)
    descriptor = context.descriptors.get(source)
    if isinstance(descriptor, ByteChannel):
        return Subscription(userdata, kind, source, 0, 0, descriptor)
    if not isinstance(descriptor, allowed_types):
        raise WasiError(Errno.BADF)
    is_at_end = (
        kind == EVENT_READ
        and isinstance(descriptor, OpenFile)
        and descriptor.file.size(source) <= descriptor.position
    )
    return Subscription(userdata, kind, source, 0, HANGUP if is_at_end else 0)


def _wait(context: CallContext, subscriptions: list[Subscription]) -> bytes:
    """Wait for the first event and return the packed events of all subscriptions that are due."""
    delays, stdin, channels = [], None, []
    for each in subscriptions:
        if each.kind == EVENT_CLOCK:
            delays.append(each.delay)
        elif each.channel is not None:
            channels.append((each.channel, each.wanted))
        else:
            descriptor = context.descriptors.get(each.fd)
            if isinstance(descriptor, InputStream):
                stdin = descriptor.source
            else:
                delays.append(0)  # Files and outputs are always ready.
    delay = min(delays, default=None)
    source = ChannelWait(channels, () if stdin is None else (stdin,))
    start = time.monotonic_ns()
    is_ready = source.is_ready()
    if not is_ready and delay != 0:
        waited = source if channels or stdin is not None else None
        needs_input = stdin is not None
        is_ready = context.wait_timed("poll_oneoff", waited, start, delay, needs_input=needs_input)
    else:
        context.interrupter.check()
    context.wait_started = None
    # The earliest clock counts as elapsed even if the wait was a little short.
    elapsed = max(time.monotonic_ns() - start, 0 if is_ready or delay is None else delay)
    return _pack_events(context, subscriptions, source.find_events(), elapsed)


def _pack_events(
    context: CallContext, subscriptions: list[Subscription], states: list[Readiness], elapsed: int
) -> bytes:
    """Return the packed events that have happened; ``states`` are those of the channels."""
    events, state_of = [], iter(states)
    for each in subscriptions:
        if each.channel is not None:
            state = next(state_of)
            if state != NOT_READY:
                events.append(_pack_channel_event(each, each.channel, state))
        elif _has_happened(context, each, elapsed):
            size = 0 if each.kind == EVENT_CLOCK else 1
            events.append(EVENT.pack(each.userdata, 0, each.kind, size, each.flags))
    return b"".join(events)


def _has_happened(context: CallContext, subscription: Subscription, elapsed: int) -> bool:
    if subscription.kind == EVENT_CLOCK:
        return subscription.delay <= elapsed
    descriptor = context.descriptors.get(subscription.fd)
    return not isinstance(descriptor, InputStream) or descriptor.source.is_ready()


def _pack_channel_event(
    subscription: Subscription, channel: ByteChannel, state: Readiness
) -> bytes:
    """Return the event of a channel. The next call of the guest returns the error, if any."""
    size = channel.available_size() if subscription.kind == EVENT_READ else 1
    has_ended = state & ALWAYS_WATCHED or (state & Readiness.READ_HANGUP and not size)
    flags = HANGUP if has_ended else 0
    return EVENT.pack(subscription.userdata, 0, subscription.kind, size, flags)
