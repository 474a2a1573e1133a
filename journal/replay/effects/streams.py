"""Effects of events of standard output and error, and of their targets."""

from journal.events import streams
from journal.replay.dispatch import apply_effect
from journal.replay.host import Host


@apply_effect.register
def _(event: streams.StreamWrite, host: Host) -> None:
    host.streams.write(event.stream, event.data, event.offset)


@apply_effect.register
def _(event: streams.StreamDelivered, host: Host) -> None:
    host.streams.delivered[event.stream] = event


@apply_effect.register
def _(event: streams.StreamOpened, host: Host) -> None:
    host.streams.targets[event.stream] = event
