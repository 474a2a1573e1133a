"""Replay of frames onto a host, in order."""

from collections.abc import Iterable

from journal._arguments import check_int, check_optional, check_type, iterate
from journal.errors import MalformedEvent, UnknownEvent
from journal.events import codec
from journal.events.tag_sets import KNOWN
from journal.format.frame import Frame
from journal.pages import PageResolver
from journal.replay.dispatch import apply
from journal.replay.host import Host, check_host
from journal.replay.limits import ReplayError

_MICROSECOND = 1000
"""Nanoseconds in a microsecond."""


def play(
    frames: Iterable[Frame],
    host: Host,
    *,
    upto: int | None = None,
    pages: PageResolver | None = None,
) -> int:
    """Apply the frames with sequence numbers below ``upto`` to ``host``; return their count.

    For the state at a snapshot, pass its sequence number plus 1. Frames that the host does not
    process are not decoded and not counted. ``pages`` resolves pages of memory that are stored in
    other events; without it, only recently replayed events are searched. Raises ReplayError, with
    the sequence number, for an event that cannot be replayed; all earlier events have then been
    applied.
    """
    check_host("host", host)
    check_optional("upto", upto, check_int)
    check_optional("pages", pages, check_type, PageResolver)
    tags, count = host.tags, 0
    for frame in iterate("frames", frames, "frames"):
        check_type("each of frames", frame, Frame)
        if upto is not None and frame.seq >= upto:
            break
        if frame.tag in tags or frame.tag not in KNOWN:
            _play_one(frame, host, pages)
            count += 1
    return count


def _play_one(frame: Frame, host: Host, pages: PageResolver | None) -> None:
    host.now, host.seq = frame.time * _MICROSECOND, frame.seq
    try:
        whole = frame if pages is None else pages.resolve_frame(frame)
        apply(codec.decode(whole.tag, whole.payload, whole.offset), host)
    except ReplayError as error:
        error.seq = frame.seq
        raise
    except (UnknownEvent, MalformedEvent) as error:
        raise ReplayError(str(error), frame.seq) from error
