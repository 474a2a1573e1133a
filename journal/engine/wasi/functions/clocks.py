"""Clock functions. Time is an input, so the journal contains every reading."""

import time

from journal.engine.wasi.call_context import CallContext
from journal.events import codec
from journal.events.inputs import ClockRead, ClockResolution
from journal.wasi_abi import CLOCK_MONOTONIC, CLOCK_THREAD, Errno, MemoryFault, WasiError

_pack_resolution = codec.make_packer(ClockResolution)
_READ, _RESOLUTION = ClockRead.tag, ClockResolution.tag
_PREFIX = (b"\x00", b"\x01")
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


def _raise_bad_clock(clock: int) -> None:
    if clock > CLOCK_THREAD:
        # The text becomes the kind of ProcessTrap, which a replay compares.
        raise MemoryFault(f"there is no clock {clock}")
    raise WasiError(Errno.BADF)
