"""Mutations of valid journals behind their hashes: every field of every event, and their order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import construct as cs

from journal import Frame, Writer
from journal.events import BY_TAG, codec
from journal.events.definition import Event
from journal.events.wire_types import (
    BLOB,
    DURATION,
    FLAG,
    GUEST_PATH,
    HOST_PATH,
    NANOSECONDS,
    TEXT,
    Enumerated,
    ListOf,
    OptionalOf,
    TupleOf,
)
from tests.support.rewrites import alter_event

Frames = Sequence[Frame]

TEXTS = ("", "a\0b", "..", "../..", "/", ".", "/proc/self/root", "\n\x1b[2J\u202e", "x" * 5000)
NUMBERS = ("-1", "9" * 5000, "1e9", "٣", "0", str((1 << 63) - 1), str(1 << 64))


class Mutation(NamedTuple):
    """A change of a list of frames, with a name for messages."""

    name: str
    change: Callable[[Frames], list[Frame]]


def mutate_events(frames: Frames, *, per_kind: int = 2) -> Iterator[Mutation]:
    """Yield mutations of every field of the first events of each kind, and of their places."""
    seen: dict[int, int] = {}
    for index, frame in enumerate(frames):
        if frame.tag not in BY_TAG or seen.get(frame.tag, 0) >= per_kind:
            continue
        seen[frame.tag] = seen.get(frame.tag, 0) + 1
        event = codec.decode(frame.tag, frame.payload)
        name = f"{index} {type(event).__name__}"
        for field in event.layout.subcons:
            for number, value in enumerate(values_beside(getattr(event, field.name), field.subcon)):
                yield Mutation(
                    f"{name}.{field.name} #{number} {value!r:.60}",
                    _replace(index, event, field.name, value),
                )
        yield from _move(name, index, len(frames))


def _replace(index: int, event: Event, name: str, value: object) -> Callable[[Frames], list[Frame]]:
    def change(frames: Frames) -> list[Frame]:
        payload = codec.encode(alter_event(event, **{name: value}))
        return [*frames[:index], frames[index]._replace(payload=payload), *frames[index + 1 :]]

    return change


def _move(name: str, index: int, count: int) -> Iterator[Mutation]:
    yield Mutation(f"{name} removed", lambda found: [*found[:index], *found[index + 1 :]])
    yield Mutation(f"{name} twice", lambda found: [*found[: index + 1], *found[index:]])
    for place in sorted({0, index + 1, count - 1} - {index}):
        yield Mutation(f"{name} moved to {place}", partial(_move_event, index, place))
    yield Mutation(f"all after {name} removed", lambda found: list(found[: index + 1]))
    yield Mutation(
        f"{name} cut", lambda found: [*found[:index], _cut(found[index]), *found[index + 1 :]]
    )


def _move_event(index: int, place: int, frames: Frames) -> list[Frame]:
    """Return the frames with one of them at another place."""
    rest = [*frames[:index], *frames[index + 1 :]]
    return [*rest[:place], frames[index], *rest[place:]]


def _cut(frame: Frame) -> Frame:
    """Return a frame with a payload that is one byte too short."""
    return frame._replace(payload=bytes(frame.payload[:-1]))


def values_beside(value: Any, con: cs.Construct) -> list[Any]:
    """Return other values of a field: boundaries, other members, and shapes that surprise."""
    return [other for other in _values(value, con) if (type(other), other) != (type(value), value)]


def _values(value: Any, con: cs.Construct) -> list[Any]:
    for leaf, values in _LEAVES:
        if con is leaf:
            return values(value)
    for shape, values_of in _SHAPES:
        if isinstance(con, shape):
            return values_of(value, con)
    return []  # Addresses and records of other runtimes.


def _paths(value: str) -> list[str]:
    return [*TEXTS, value + "/x", "/" + value, value + "\udcff"]


_LEAVES: list[tuple[cs.Construct, Callable[[Any], list[Any]]]] = [
    (FLAG, lambda _: [True, False]),
    (DURATION, lambda _: [0, NANOSECONDS, (1 << 64) * NANOSECONDS - 1]),
    (BLOB, lambda value: [b"", value[:-1], value + b"\0", b"\xff" * 5000, b"a\0b=c", value * 3]),
    (TEXT, lambda _: [*TEXTS, *NUMBERS]),
    (GUEST_PATH, _paths),
    (HOST_PATH, _paths),
]


def _optional(value: Any, con: OptionalOf) -> list[Any]:
    return [None, *_values(0 if value is None else value, con.subcon)]


def _tuples(value: Any, con: TupleOf) -> list[Any]:
    return [
        (*value[:at], other, *value[at + 1 :])
        for at, each in enumerate(con.values)
        for other in _values(value[at], each)
    ]


def _lists(value: Any, con: ListOf) -> list[Any]:
    found = [(), value * 2, value[::-1], value[:-1]]
    if value:
        found += [(value[0],) * 5000]
        found += [(other, *value[1:]) for other in _values(value[0], con.subcon)]
        found += [(*value[:-1], other) for other in _values(value[-1], con.subcon)]
    return found


def _integers(value: Any, con: cs.FormatField) -> list[Any]:
    bits = 8 * con.sizeof()
    if con.fmtstr[-1].islower():
        low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    else:
        low, high = 0, (1 << bits) - 1
    near = (value - 1, value + 1, value ^ 1, value * 2, 0, 1, 2, 3, 7)
    edges = (low, high, high - 1, high // 2, high // 2 + 1)
    return sorted({each for each in (*near, *edges) if low <= each <= high})


_SHAPES: list[tuple[type[cs.Construct], Callable[[Any, Any], list[Any]]]] = [
    (Enumerated, lambda _, con: list(con.members)),
    (OptionalOf, _optional),
    (ListOf, _lists),
    (TupleOf, _tuples),
    (cs.FormatField, _integers),
    (cs.Bytes, lambda _, con: [bytes(con.length), b"\xff" * con.length]),
]


def write_frames(path: Path, frames: Frames) -> Path:
    """Write frames to a new journal, with new hashes."""
    moment = [0]
    with Writer(path, clock=lambda: moment[0]) as writer:
        for frame in frames:
            moment[0] = max(moment[0], frame.time)
            writer.append_frame(frame.tag, bytes(frame.payload))
    return path
