"""Copies of journals, frame by frame, with changes that a test chooses."""

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
    """Return all frames of a journal."""
    with Reader(path) as reader:
        return list(reader.frames())


def events_of(path: Path) -> list[Event]:
    """Return all events of a journal."""
    with Reader(path) as reader:
        return list(reader)


def rewrite(path: Path, target: Path, change: Change = list) -> Path:
    """Copy the journal at `path` to `target` with a change of its frames. Id and times are kept."""
    frames = list(change(frames_of(path)))
    with Reader(path) as reader:
        journal_id = reader.journal_id
    moment = frames[0].time

    def clock() -> int:
        return moment

    with Writer(target, clock=clock, journal_id=journal_id) as writer:
        for frame in frames:
            moment = frame.time
            writer.append_frame(frame.tag, frame.payload)
    return target


def keep_first(count: int) -> Change:
    """Return a change that keeps the first frames, or drops the last if `count` is negative."""
    return lambda frames: frames[:count]


def replace_event(frames: Sequence[Frame], index: int, event: Event) -> list[Frame]:
    """Return the frames with another event at an index."""
    changed = frames[index]._replace(tag=event.tag, payload=journal.encode(event))
    return [*frames[:index], changed, *frames[index + 1 :]]


def alter_event(event: Event, **changes: object) -> Event:
    """Return a copy of an event with other fields."""
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
