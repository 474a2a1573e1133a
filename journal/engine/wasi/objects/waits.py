"""Waits of a guest for an object inside it, and writes that wait for room in a buffer.

An object inside the guest is equal in every replay, so a call that finds it ready records nothing.
A call that has to wait records only how the wait ended.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from journal.engine.wasi.channel import ByteChannel
from journal.events.inputs import HostCall
from journal.wasi_abi import Errno, WasiError

if TYPE_CHECKING:
    from journal.engine.tape import HostReply
    from journal.engine.wasi.call_context import CallContext


class Condition:
    """A wait source without a descriptor of the host: a condition on objects inside the guest."""

    def __init__(self, is_ready: Callable[[], bool]) -> None:
        self.is_ready = is_ready

    def poll_events(self) -> list[tuple[int, int]]:
        """Return nothing: the guest that changes the objects wakes the waiting guest."""
        return []


def wait_inside(
    context: "CallContext",
    fd: int,
    function: str,
    is_ready: Callable[[], bool],
    timeout_ns: int | None = None,
) -> None:
    """Wait for an object inside the guest, in the call ``function`` on its descriptor ``fd``.

    The state of the object tells, in a replay too, that the call has to wait. Raises ``WasiError``
    with ``AGAIN`` after the timeout, and with ``INTR`` if a signal ends the wait. Afterwards the
    caller examines the object again.
    """

    def live() -> "HostReply":
        try:
            has_come = context.wait(function, Condition(is_ready), timeout_ns)
        except WasiError as error:
            return error.errno, b""
        return (Errno.SUCCESS if has_come else Errno.AGAIN), b""

    errno, _ = context.tape.request_host_result(HostCall.WAIT, fd, live)
    if errno:
        raise WasiError(errno)


class StreamSink(ByteChannel):
    """An end of a stream into which a guest writes.

    ``accepted_size`` counts the bytes of an unfinished write that are in the buffer. The call of
    such a write may be suspended and made again.
    """

    accepted_size: int = 0

    def check_writable(self) -> None:
        """Raise ``WasiError`` with ``PIPE`` if nobody can read what is written."""
        raise NotImplementedError

    def room(self) -> int:
        """Return how many bytes the buffer can take."""
        raise NotImplementedError

    def put(self, data: bytes) -> None:
        """Add bytes to the buffer, which has room for them."""
        raise NotImplementedError


def write_stream(
    context: "CallContext",
    fd: int,
    function: str,
    sink: StreamSink,
    data: bytes,
    *,
    waits: bool,
    atomic_size: int = 1,
    timeout_ns: int | None = None,
) -> int:
    """Write ``data`` into ``sink`` and return the count of accepted bytes.

    A write that ``waits`` is complete, unless the wait or the stream ends early. Another one
    accepts what fits, and fails with ``AGAIN`` if nothing does. At most ``atomic_size`` bytes are
    accepted all together or not at all.
    """
    try:
        while True:
            sink.check_writable()
            rest = data[sink.accepted_size :]
            part = rest[: sink.room()]
            if len(part) < len(rest) and len(data) <= atomic_size:
                part = b""
            if part:
                context.buffers.reserve(len(part))
                sink.put(part)
                sink.accepted_size += len(part)
            if len(part) == len(rest):
                break
            if not waits:
                raise WasiError(Errno.AGAIN)
            needed = len(data) if len(data) <= atomic_size else 1
            wait_inside(context, fd, function, partial(_has_room, sink, needed), timeout_ns)
    except WasiError as error:
        if error.errno == Errno.PIPE:
            context.on_broken_pipe()
        if not sink.accepted_size:
            raise
    accepted_size, sink.accepted_size = sink.accepted_size, 0
    return min(accepted_size, len(data))


def await_room(
    context: "CallContext",
    fd: int,
    function: str,
    sink: StreamSink,
    *,
    waits: bool,
    timeout_ns: int | None = None,
) -> int:
    """Return how many bytes ``sink`` can take now, at least 1; wait for room unless it must not."""
    sink.check_writable()
    if not sink.room():
        if not waits:
            raise WasiError(Errno.AGAIN)
        wait_inside(context, fd, function, partial(_has_room, sink, 1), timeout_ns)
        sink.check_writable()
    return sink.room()


def _has_room(sink: StreamSink, size: int) -> bool:
    """Return whether a write of ``size`` bytes continues, with success or an error."""
    try:
        sink.check_writable()
    except WasiError:
        return True
    return sink.room() >= size
