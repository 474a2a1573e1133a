"""Use of invented event kinds in a copy of the library that declares them.

``python -m tests.support.new_kinds`` runs each function of ``USES``, and prints the tracebacks of
those that failed as a JSON object. ``DECLARATIONS`` and ``EFFECTS`` are all that the copy adds to
the library, at the ends of its modules.
"""

from __future__ import annotations

import io
import json
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from journal import filter, split
from journal.compaction import RetentionPolicy
from journal.engine.session import preamble
from journal.engine.snapshot.rebuild import rebuild_state
from journal.engine.snapshot.restore import read_parts
from journal.engine.tape import Batch, Tape
from journal.errors import Divergence, NotResumable
from journal.events import BY_TAG, Event, codec
from journal.events.process import InstrumentedPart, Mount, MountKind, RecordingLevel, SessionStart
from journal.export import Secret, export_lines, import_lines
from journal.log.reader import Reader
from journal.query import Query
from journal.replay import ModelHost, play
from journal.snapshots import list_snapshots
from journal.snapshots.resumability import ResumabilityAnalysis
from tests.support.compaction_histories import check, frames_of, write_events
from tests.support.engine_state import Fresh, batches_of
from tests.support.sample_events import MODULE, memory_mount, open_path, process_start
from tests.support.sample_events import whole_snapshot as make_snapshot

IMPORTS = """
from typing import Annotated
from journal.events.definition import (
    Consumed, Event, Group, Keep, Latest, Merged, Needed, Opens, Pinned, Role, Staged, event)
from journal.events.wire_types import Fd, InputBytes, FileBytes, MemoryBytes, PublicBytes, U8, U32
"""
DECLARATIONS = {
    "descriptors": '''
@event(tag=210, group=Group.FILES, role=Role.EFFECT, rule=Needed())
class HeaderReplaced(Event):
    """The guest replaced the first bytes of an open file."""

    fd: Fd
    data: FileBytes


@event(tag=211, group=Group.FILES, role=Role.EFFECT, rule=Opens(("timer",)))
class TimerOpened(Event):
    """The guest created a timer."""

    timer: Fd
''',
    "core": '''
@event(tag=212, group=Group.CORE, role=Role.EFFECT, rule=Latest(("category",)))
class LocaleSet(Event):
    """The guest set a locale."""

    category: U32
    name: PublicBytes
''',
    "inputs": '''
@event(tag=213, group=Group.INPUTS, role=Role.INPUT, rule=Consumed())
class SeedRead(Event):
    """The guest received a seed."""

    source: U8
    seed: InputBytes
''',
    "process": '''
@event(tag=214, group=Group.CORE, role=Role.PREAMBLE, rule=Keep())
class LicensePlaced(Event):
    """The program has this license."""

    data: PublicBytes


@event(tag=215, group=Group.CORE, role=Role.RECORDING, rule=Keep())
class HostMoved(Event):
    """The recording host moved."""
''',
    "threads": '''
@event(tag=216, group=Group.THREADS, role=Role.RECORDING, rule=Merged())
class RegistersSet(Event):
    """Values of registers, for the next snapshot."""

    data: MemoryBytes


@event(tag=217, group=Group.THREADS, role=Role.EFFECT, rule=Staged())
class SignalMaskSet(Event):
    """Mask of signals, for the next snapshot of another runtime."""

    mask: U32
''',
}
EFFECTS = {
    "descriptors": """
from journal.replay.state.descriptor_table import EventCounter as _Counter

@apply_effect.register
def _(event: descriptors.HeaderReplaced, host: Host) -> None:
    host.table.object_of(event.fd, OpenMountFile).file.write(event.fd, 0, event.data)


@apply_effect.register
def _(event: descriptors.TimerOpened, host: Host) -> None:
    host.table.add(event.timer, _Counter(0, 0))
""",
    "core": """
@apply_effect.register
def _(event: core.LocaleSet, host: Host) -> None:
    pass
""",
    "inputs": """
@apply_effect.register
def _(event: inputs.SeedRead, host: Host) -> None:
    host.inputs.random_size += len(event.seed)
""",
    "process": """
@apply_effect.register
def _(event: process.LicensePlaced | process.HostMoved, host: Host) -> None:
    pass
""",
    "threads": """
@apply_effect.register
def _(event: threads.RegistersSet | threads.SignalMaskSet, host: Host) -> None:
    pass
""",
}

SECRET = b"the secret of the guest"


def make(name: str, /, **fields: Any) -> Event:
    """Return an event of an invented kind."""
    (kind,) = (cls for cls in BY_TAG.values() if cls.__name__ == name)
    build: Any = kind
    event: Event = build(**fields)
    return event


license_placed = partial(make, "LicensePlaced", data=b"free")
header = partial(make, "HeaderReplaced", fd=5)
locale = partial(make, "LocaleSet")
seed = partial(make, "SeedRead", source=1)
registers = partial(make, "RegistersSet")


def start() -> list[Event]:
    """Return the first events of a journal: four events of the preamble, and others."""
    return [
        process_start(RecordingLevel.STATE),
        InstrumentedPart(offset=0, data=MODULE),
        memory_mount(),
        license_placed(),
        SessionStart(realtime=0, monotonic=0, engine_version="", journal_version="", platform=""),
        make("HostMoved"),
        open_path(5, 3, "a", 1),
    ]


def snapshot_with(*parts: Event) -> list[Event]:
    """Return a snapshot that a guest can resume from, with additional parts."""
    *first, end = make_snapshot()
    return [*first, *parts, end]


def names_of(path: Path) -> list[str]:
    """Return the names of the kinds of a journal's events."""
    return [BY_TAG[frame.tag].__name__ for frame in frames_of(path)]


# -- uses -----------------------------------------------------------------------------------------


def play_events(folder: Path) -> None:
    """The effects change the state, and each event is counted."""
    events = [*start(), header(data=b"abc"), seed(seed=b"1234"), make("TimerOpened", timer=9)]
    host = ModelHost()
    assert play(frames_of(write_events(folder / "a", events)), host) == len(events)
    assert host.files == {"/a": b"abc"}
    assert host.inputs.random_size == 4
    assert set(host.descriptors) == {0, 1, 2, 3, 5, 9}


def compact(folder: Path) -> None:
    """Compaction follows the rule of each kind, and leads to the same states."""
    events = [
        *start(),
        header(data=b"old"),
        header(data=b"new"),
        *(locale(category=0x101, name=b"a"), locale(category=1, name=b"b")),
        *(locale(category=0x101, name=b"c"), seed(seed=b"1")),
        *snapshot_with(registers(data=b"old")),
        make("TimerOpened", timer=9),
        *snapshot_with(registers(data=b"new")),
        header(data=b"end"),
    ]
    source, target = write_events(folder / "a", events), folder / "b"
    result = check(source, target, RetentionPolicy())
    assert not result.reason
    kept = [codec.decode(frame.tag, frame.payload) for frame in frames_of(target)]
    invented = [event for event in kept if event.tag >= 210]
    assert invented == [
        license_placed(),
        make("HostMoved"),
        header(data=b"new"),
        locale(category=1, name=b"b"),
        locale(category=0x101, name=b"c"),
        make("TimerOpened", timer=9),
        registers(data=b"new"),
        header(data=b"end"),
    ]


def compact_foreign(folder: Path) -> None:
    """A snapshot part of which compaction knows no meaning is kept."""
    masks = [make("SignalMaskSet", mask=0), make("SignalMaskSet", mask=0)]
    events = [*start(), *masks, make_snapshot()[-1], make_snapshot()[-1]]
    target = folder / "b"
    check(write_events(folder / "a", events), target, RetentionPolicy())
    assert names_of(target).count("SignalMaskSet") == 2
    assert names_of(target).count("Snapshot") == 1


def split_journal(folder: Path) -> None:
    """A self-contained part repeats the whole preamble."""
    events = [*start(), *snapshot_with(), header(data=b"end")]
    source = write_events(folder / "a", events)
    split(source, folder / "parts", snapshots=True, self_contained=True)
    _, last = sorted((folder / "parts").iterdir())
    assert names_of(last) == [*(type(event).__name__ for event in start()[:4]), "HeaderReplaced"]


def filter_journal(folder: Path) -> None:
    """A filter drops a kind with its group, but never one of the preamble."""
    events = [*start(), header(data=b"a"), seed(seed=b"1"), locale(category=1, name=b"")]
    source = write_events(folder / "a", events)
    groups = frozenset(cls.group for cls in BY_TAG.values())
    filter(source, folder / "b", Query(groups=groups), keep=False)
    assert names_of(folder / "b") == [type(event).__name__ for event in start()[:4]]
    source = write_events(folder / "c", [*events, *snapshot_with(registers(data=b"1"))])
    for name, resumable in (("SeedRead", True), ("HeaderReplaced", False), ("LocaleSet", False)):
        result = filter(source, folder / name, Query(where=f'kind == "{name}"'), keep=False)
        assert name not in names_of(folder / name)
        assert result.resumable is resumable


def export(folder: Path) -> None:
    """An export redacts the secret fields of a kind, and no others."""
    hidden = {Secret.FILES: header, Secret.INPUT: seed, Secret.MEMORY: registers}
    for secret, build in hidden.items():
        field = "seed" if secret is Secret.INPUT else "data"
        source = write_events(folder / secret, [build(**{field: SECRET}), license_placed()])
        out, plain = io.BytesIO(), io.BytesIO()
        export_lines(source, plain)
        assert SECRET in plain.getvalue()
        export_lines(source, out, redact=[secret])
        assert SECRET not in out.getvalue()
        assert b"free" in out.getvalue()
        target = folder / f"{secret}-again"
        import_lines(io.BytesIO(out.getvalue()), target)
        assert names_of(target) == names_of(source)


def analyse_resumability(folder: Path) -> None:
    """The loss of an event counts by the role and the rule of its kind."""
    events = [*start(), header(data=b"a"), seed(seed=b"1"), locale(category=1, name=b"")]
    events += snapshot_with(registers(data=b"1"))

    def is_resumable_without(name: str) -> bool:
        analysis = ResumabilityAnalysis()
        is_kept = [type(event).__name__ != name for event in events]
        tags = bytes(event.tag * kept for event, kept in zip(events, is_kept, strict=True))
        gone = bytes(event.tag * (not kept) for event, kept in zip(events, is_kept, strict=True))
        payload = [codec.encode(event) for event in events].__getitem__
        analysis.add_block(tags, gone, range(len(events)), payload)
        return analysis.result.resumable

    assert is_resumable_without("")
    assert is_resumable_without("SeedRead")
    assert is_resumable_without("HostMoved")
    assert not is_resumable_without("HeaderReplaced")
    assert not is_resumable_without("LocaleSet")
    assert not is_resumable_without("RegistersSet")


def replay_on_tape(folder: Path) -> None:
    """A replay skips recording events, returns inputs and compares effects."""

    class Sink:
        time = 0

        def append_frame(self, tag: int, payload: bytes) -> int:
            raise AssertionError("a replay appended an event")

    expected = [
        make("HostMoved"),
        seed(seed=b"1"),
        registers(data=b""),
        locale(category=1, name=b""),
    ]
    rows = [(seq, one.tag, codec.encode(one), seq) for seq, one in enumerate(expected)]
    columns: Any = zip(*rows, strict=True)
    skipped: list[int] = []
    batch = Batch(*columns)
    tape = Tape(Sink(), iter([batch]), on_recording_event=lambda tag, *_: skipped.append(tag))
    tape.start()
    payload = codec.encode(expected[1])
    assert tape.request_input(expected[1].tag, payload[:1], lambda: b"") == payload
    other = locale(category=2, name=b"")
    try:
        tape.record_effect(other.tag, codec.encode(other))
    except Divergence:
        pass
    else:
        raise AssertionError("a different effect was accepted")
    tape.record_effect(expected[3].tag, codec.encode(expected[3]))
    assert not tape.replaying
    assert skipped == [expected[0].tag, expected[2].tag]


def refuse_in_engine(folder: Path) -> None:
    """The engine, which has no code for the kinds, refuses to leave them out."""

    def refusal(action: Callable[[], object]) -> str:
        try:
            action()
        except NotResumable as error:
            return str(error)
        raise AssertionError("the engine left out an event")

    path = write_events(folder / "a", [*start(), *snapshot_with(registers(data=b"1"))])
    with Reader(path) as reader:
        assert "LicensePlaced" in refusal(lambda: preamble.read(reader.blocks()))
        (info,) = list_snapshots(reader)
        assert "RegistersSet" in refusal(lambda: read_parts(reader, info))
    mount = Mount(fd=3, kind=MountKind.MEMORY, guest="/", host="")
    for event in (header(data=b"a"), locale(category=1, name=b"")):
        row = (0, event.tag, codec.encode(event), 0)
        process = Fresh([mount])
        text = refusal(lambda: rebuild_state(process.context, batches_of([row]), 1))  # noqa: B023
        assert type(event).__name__ in text


def close_descriptors(folder: Path) -> None:
    """Check that a sink closes the descriptors of a new kind."""
    from journal.adapters import AutoClose, MemoryJournal

    sink = AutoClose(MemoryJournal())
    sink.append(make("TimerOpened", timer=9))
    assert sink.open_descriptors == {9}
    assert sink.finish() == 1


USES: dict[str, Callable[[Path], None]] = {
    use.__name__: use
    for use in (
        *(play_events, compact, compact_foreign, split_journal, filter_journal, export),
        *(analyse_resumability, replay_on_tape, refuse_in_engine, close_descriptors),
    )
}


def run_uses() -> dict[str, str]:
    """Run each function in a directory of its own, and return the tracebacks of those that fail."""
    failures = {}
    for name, use in USES.items():
        with TemporaryDirectory() as folder:
            try:
                use(Path(folder))
            except Exception:
                failures[name] = traceback.format_exc()
    return failures


if __name__ == "__main__":
    json.dump(run_uses(), sys.stdout)
