"""Journals rewritten frame by frame: what a test changes is all that is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import journal
from journal import Event, Frame, Reader, Writer
from journal.events.core import ProcessExit
from journal.events.definition import field_dict
from journal.events.streams import StreamDelivered, StreamWrite

Change = Callable[[list[Frame]], Iterable[Frame]]


def frames_of(path: Path) -> list[Frame]:
    """All frames of a journal."""
    with Reader(path) as reader:
        return list(reader.frames())


def events_of(path: Path) -> list[Event]:
    """All events of a journal."""
    with Reader(path) as reader:
        return list(reader)


def rewrite(path: Path, target: Path, change: Change = list) -> Path:
    """The journal at `path` once more at `target`, with `change` made; times stay as they are."""
    frames = list(change(frames_of(path)))
    moment = frames[0].time

    def clock() -> int:
        return moment

    with Writer(target, clock=clock) as writer:
        for frame in frames:
            moment = frame.time
            writer.append_frame(frame.tag, frame.payload)
    return target


def keep_first(count: int) -> Change:
    """Keep the first frames; with a negative `count`, all but the last."""
    return lambda frames: frames[:count]


def replace_event(frames: Sequence[Frame], index: int, event: Event) -> list[Frame]:
    """The frames with another event in one place."""
    changed = frames[index]._replace(tag=event.tag, payload=journal.encode(event))
    return [*frames[:index], changed, *frames[index + 1 :]]


def alter_event(event: Event, **changes: object) -> Event:
    """The event with some fields changed."""
    return type(event)(**(field_dict(event) | changes))


def frames_without_offsets(path: Path) -> list[Frame]:
    with Reader(path) as reader:
        return [frame._replace(offset=0) for frame in reader.frames()]


def change_output_of_exit7(frames: list[Frame]) -> list[Frame]:
    """Return the frames of exit7 with other output and without an end."""
    return [
        frame._replace(payload=frame.payload.replace(b"leaving", b"staying"))
        if frame.tag == StreamWrite.tag
        else frame
        for frame in frames
        if frame.tag not in (ProcessExit.tag, StreamDelivered.tag)
    ]
