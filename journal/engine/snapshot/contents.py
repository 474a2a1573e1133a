"""Contents of objects inside the guest, such as the bytes of a pipe, as a snapshot stores them."""

from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.channel import ByteChannel, ChannelState
from journal.engine.wasi.objects.named_state import connect_restored
from journal.errors import FormatError, NotResumable
from journal.events.snapshots import DescriptorContents


def capture_contents(context: CallContext) -> list[DescriptorContents]:
    """Return the contents of the guest's channels, each under its lowest descriptor.

    An object without an event has the contents that the effects of the guest gave it.
    """
    events: list[DescriptorContents] = []
    channels = _find_channels(context)
    context.inner_network.numbers = {id(channel): fd for fd, channel in channels.items()}
    for fd, channel in channels.items():
        state = channel.save()
        if state is not None:
            event = DescriptorContents(
                fd=fd, value=state.value, flags=state.flags, parts=state.parts
            )
            events.append(event)
    context.inner_network.numbers = {}
    return events


def apply_contents(context: CallContext, events: list[DescriptorContents]) -> None:
    """Restore the contents; raises ``NotResumable`` if an object cannot have them."""
    channels = _find_channels(context)
    by_number: dict[int, object] = dict(channels)
    for event in events:
        channel = channels.pop(event.fd, None)
        if channel is None:
            raise NotResumable(
                f"the snapshot has contents of descriptor {event.fd}, which is not the first "
                "descriptor of a pipe, a counter or a socket without other contents"
            )
        try:
            channel.load(ChannelState(event.value, event.flags, event.parts))
        except (ValueError, FormatError) as error:
            raise NotResumable(
                f"the snapshot has invalid contents of descriptor {event.fd}: {error}"
            ) from error
    try:
        connect_restored(context.inner_network, by_number)
    except ValueError as error:
        raise NotResumable(f"the snapshot has invalid connections: {error}") from error


def _find_channels(context: CallContext) -> dict[int, ByteChannel]:
    """Return the guest's channels by their lowest descriptors, in the order of these."""
    channels: dict[int, ByteChannel] = {}
    found: set[int] = set()
    for fd, descriptor in sorted(context.descriptors.used.items()):
        if isinstance(descriptor, ByteChannel) and id(descriptor) not in found:
            found.add(id(descriptor))
            channels[fd] = descriptor
    return channels
