"""Effects of inputs: their counts, and the results of requests to the former host."""

from journal.events import inputs
from journal.replay.dispatch import apply_effect
from journal.replay.effects.pending_calls import apply_host_result
from journal.replay.host import Host


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


@apply_effect.register
def _(event: inputs.SignalDelivered, host: Host) -> None:
    host.inputs.result_count += 1


@apply_effect.register
def _(event: inputs.IntervalStarted, host: Host) -> None:
    host.inputs.result_count += 1
