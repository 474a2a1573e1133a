"""Clock functions. Time is an input, so the journal contains every reading."""

import time

from journal.engine.runtime.bindings import Handler
from journal.engine.wasi.call_context import CallContext
from journal.events import codec
from journal.events.core import SetClockTime
from journal.events.inputs import ClockRead, ClockResolution
from journal.wasi_abi import (
    CLOCK_MONOTONIC,
    CLOCK_REALTIME,
    CLOCK_THREAD,
    Errno,
    MemoryFault,
    WasiError,
)

#: Latest time to which a guest can set its clock, as on Linux.
TIME_MAX = (1 << 63) - 1

_pack_resolution = codec.make_packer(ClockResolution)
_READ, _RESOLUTION = ClockRead.tag, ClockResolution.tag
_PREFIX = (b"\x00", b"\x01")
_pack_set = codec.make_packer(SetClockTime)
_MICROSECOND = 1000
_HOST_CLOCKS = (time.CLOCK_REALTIME, time.CLOCK_MONOTONIC)


def clock_time_get(context: CallContext, clock: int, precision: int, result: int) -> int:
    """Read a clock, in nanoseconds. The processor-time clocks are not supported."""
    if clock > CLOCK_MONOTONIC:
        _raise_bad_clock(clock)
    payload = context.tape.request_input(_READ, _PREFIX[clock], context.clocks.live[clock])
    memory, end = context.memory, result + 8
    if end > memory.size:
        memory.check(result, 8)
    # This is the most frequent call of many guests, so it writes without a further function call.
    memory.view[result:end] = payload[1:]
    return 0


def clock_res_get(context: CallContext, clock: int, result: int) -> None:
    """Read the resolution of a clock, in nanoseconds."""
    if clock > CLOCK_MONOTONIC:
        _raise_bad_clock(clock)

    def live() -> bytes:
        seconds = time.clock_getres(_HOST_CLOCKS[clock])
        return _pack_resolution(clock, max(round(seconds * 1e9), 1))

    payload = context.tape.request_input(_RESOLUTION, _PREFIX[clock], live)
    context.memory.write(result, payload[1:])


def clock_time_set(context: CallContext, clock: int, timestamp: int) -> None:
    """Set the guest's own realtime clock, in nanoseconds. No other clock can be set."""
    if clock != CLOCK_REALTIME or timestamp > TIME_MAX:
        raise WasiError(Errno.INVAL)
    set_clock(context, clock, timestamp)


def set_clock(context: CallContext, clock: int, timestamp: int) -> None:
    """Set the realtime clock; the time of the event is the time of the host at that moment."""
    now = context.tape.record_effect(SetClockTime.tag, _pack_set(clock, timestamp)) * _MICROSECOND
    context.clocks.realtime_offset = timestamp - now


def _raise_bad_clock(clock: int) -> None:
    if clock > CLOCK_THREAD:
        # The text becomes the kind of ProcessTrap, which a replay compares.
        raise MemoryFault(f"there is no clock {clock}")
    raise WasiError(Errno.BADF)


FUNCTIONS: dict[str, tuple[str, Handler]] = {"clock_time_set": ("il", clock_time_set)}
"""Parameter types and handler of each function of WASIX in this module."""
