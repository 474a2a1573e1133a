"""Effects of inputs: their counts, and the results of requests to the former host."""

from journal.events import inputs
from journal.events.inputs import PEEKED, HostCall
from journal.replay.dispatch import apply_effect
from journal.replay.effects.pending_calls import apply_host_result, is_accepted
from journal.replay.host import Host
from journal.replay.state.descriptor_table import SocketState

_TRANSFERS = frozenset((HostCall.CONNECT, HostCall.SEND))


@apply_effect.register
def _(event: inputs.ClockRead, host: Host) -> None:
    host.inputs.clocks[event.clock] = event.time


@apply_effect.register
def _(event: inputs.ClockResolution, host: Host) -> None:
    host.inputs.resolutions[event.clock] = event.resolution


@apply_effect.register
def _(event: inputs.RandomBytes, host: Host) -> None:
    host.inputs.random_size += len(event.data)


@apply_effect.register
def _(event: inputs.StreamRead, host: Host) -> None:
    host.inputs.record_read(event.stream, event.offset, len(event.data))


@apply_effect.register
def _(event: inputs.PollResult, host: Host) -> None:
    host.inputs.poll_count += 1


@apply_effect.register
def _(event: inputs.TtyRead, host: Host) -> None:
    host.inputs.result_count += 1


@apply_effect.register
def _(event: inputs.BytesReceived, host: Host) -> None:
    host.inputs.result_count += 1
    socket = _find_socket(event.fd, host)
    if socket is not None:
        socket.received += 0 if event.flags & PEEKED else len(event.data)
        socket.record_error(event.errno)


@apply_effect.register
def _(event: inputs.Resolved, host: Host) -> None:
    host.inputs.result_count += 1


@apply_effect.register
def _(event: inputs.EpollResult, host: Host) -> None:
    host.inputs.poll_count += 1


@apply_effect.register
def _(event: inputs.HostResult, host: Host) -> None:
    host.inputs.result_count += 1
    apply_host_result(event, host)
    socket = _find_socket(event.fd, host) if event.call in _TRANSFERS else None
    if socket is not None:
        socket.record_error(event.errno)
        if event.call is HostCall.CONNECT and not is_accepted(event):
            socket.refuse()


@apply_effect.register
def _(event: inputs.SignalDelivered, host: Host) -> None:
    host.inputs.result_count += 1


@apply_effect.register
def _(event: inputs.IntervalStarted, host: Host) -> None:
    host.inputs.result_count += 1


def _find_socket(fd: int, host: Host) -> SocketState | None:
    """Return the socket of a descriptor; None if a filter has dropped it, or for another object."""
    entry = host.table.entries.get(fd)
    found = entry.description.object if entry is not None else None
    return found if isinstance(found, SocketState) else None
