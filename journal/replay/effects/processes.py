"""Effects of events of processes that start each other, and of the pipes between them."""

from journal.events import processes
from journal.events.processes import StartKind
from journal.replay.dispatch import apply_effect
from journal.replay.host import Host
from journal.replay.limits import ReplayError
from journal.replay.state.descriptor_table import STREAMS, Pipe, PipeEnd

_INPUT = 0


@apply_effect.register
def _(event: processes.ChildStart, host: Host) -> None:
    host.process.child = event
    if event.directory != "/":
        host.process.working_directory = event.directory
    for stream in STREAMS:
        host.table.close(stream)
    for each in event.descriptors:
        if each.fd in host.table.entries:
            host.table.close(each.fd)
        if each.origin is StartKind.DUPLICATE:
            if each.source in host.table.entries:  # Else the guest makes it at its start.
                host.table.duplicate(each.source, each.fd, 0)
            continue
        end = PipeEnd(Pipe(), is_write_end=each.origin is StartKind.WRITE_END)
        host.table.add(each.fd, end, flags=each.flags)


@apply_effect.register
def _(event: processes.ProcessSpawned, host: Host) -> None:
    """Nothing in this process changes."""


@apply_effect.register
def _(event: processes.ChildStarted, host: Host) -> None:
    host.inputs.result_count += 1


@apply_effect.register
def _(event: processes.ChildEnded, host: Host) -> None:
    host.inputs.result_count += 1


@apply_effect.register
def _(event: processes.PipeWrite, host: Host) -> None:
    host.inputs.result_count += 1


@apply_effect.register
def _(event: processes.PipeRead, host: Host) -> None:
    host.inputs.result_count += 1


@apply_effect.register
def _(event: processes.StreamPassed, host: Host) -> None:
    if event.stream == _INPUT:
        host.inputs.record_read(event.stream, event.offset, len(event.data))
    elif event.stream in STREAMS:
        host.streams.write(event.stream, event.data, event.offset)
    else:
        raise ReplayError(f"bytes passed to stream {event.stream}, which does not exist")


@apply_effect.register
def _(event: processes.ProcessReplaced, host: Host) -> None:
    host.end_process()
    host.process.end_event = event
