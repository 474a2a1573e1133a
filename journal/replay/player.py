"""Playing frames onto a host, in order."""

from collections.abc import Iterable

from journal.errors import MalformedEvent, UnknownEvent
from journal.events import BY_TAG, codec
from journal.format.frame import Frame
from journal.pages import PageResolver
from journal.replay.dispatch import apply
from journal.replay.host import Host
from journal.replay.limits import ReplayError

_MICROSECOND = 1000  # in nanoseconds


def play(
    frames: Iterable[Frame],
    host: Host,
    *,
    upto: int | None = None,
    pages: PageResolver | None = None,
) -> int:
    """Give ``host`` the state behind the last of ``frames`` whose number is below ``upto``.

    The state at a snapshot is that of ``upto`` one more than its number. Returns how many events
    had their effect; kinds that the host does not heed are not even decoded. ``pages`` looks up
    pages of memory that stand in other events: without it, those are looked for among what was
    played lately. Raises ReplayError, with the event's number, for one that cannot be played: what
    stands before it has been.
    """
    tags, count = host.tags, 0
    for frame in frames:
        if upto is not None and frame.seq >= upto:
            break
        if frame.tag in tags or frame.tag not in BY_TAG:
            _play_one(frame, host, pages)
            count += 1
    return count


def _play_one(frame: Frame, host: Host, pages: PageResolver | None) -> None:
    host.now, host.seq = frame.time * _MICROSECOND, frame.seq
    try:
        whole = frame if pages is None else pages.resolve_frame(frame)
        apply(codec.decode(whole.tag, whole.payload, whole.offset), host)
    except ReplayError as refusal:
        refusal.seq = frame.seq
        raise
    except (UnknownEvent, MalformedEvent) as error:
        raise ReplayError(str(error), frame.seq) from error
