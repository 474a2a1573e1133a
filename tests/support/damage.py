"""Journals with torn, damaged or forged snapshots, and their resumes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import journal
from journal import Event, Frame
from journal.engine import RecordingLevel, RunResult, SnapshotOptions
from journal.errors import JournalError
from journal.events import codec
from journal.events.core import ProcessExit
from journal.events.memory import MemoryPages, PageKind
from journal.events.process import ProcessTrap
from journal.events.snapshots import DescriptorPositions, DirectoryListing, SafePoint, Snapshot
from journal.events.threads import GlobalsSet, SetThread, TableSet
from journal.pages import encoding as paging
from journal.snapshots import SnapshotInfo, Trigger
from tests.support.guest_runs import wait_for_end
from tests.support.programs import guest
from tests.support.rewrites import alter_event, frames_of, rewrite
from tests.support.snapshot_runs import snapshots_in

PARTS = (GlobalsSet, TableSet, SetThread, DescriptorPositions, DirectoryListing)
PART_TAGS = frozenset(kind.tag for kind in PARTS)
STATE_TAGS = PART_TAGS | {MemoryPages.tag}
SNAPSHOT_TAGS = STATE_TAGS | {SafePoint.tag, Snapshot.tag}
ENDS = (ProcessExit, ProcessTrap)
COMMANDS = (
    b"".join(b"set number%d %d\nget number%d\n" % (n, n, n) for n in range(6)) + b"all\nquit 4\n"
)

Frames = list[Frame]
Change = Callable[[Frames], Iterable[Frame]]


@dataclass(frozen=True, slots=True)
class Guest:
    """A guest, and the options of its recording."""

    name: str
    args: tuple[str, ...] = ()
    stdin: bytes = b""
    every_events: int | None = 3
    on: frozenset[Trigger] = frozenset({Trigger.BOOTSTRAP})
    level: RecordingLevel = RecordingLevel.FULL
    program: bytes = b""

    @property
    def module(self) -> bytes:
        return self.program or guest(self.name).read_bytes()


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A journal with snapshots, and the result of its run."""

    guest: Guest
    path: Path
    outcome: RunResult
    stdout: bytes
    infos: tuple[SnapshotInfo, ...]


@dataclass(frozen=True, slots=True)
class ResumeResult:
    """Result of a resume, or its error, and the notes of the engine."""

    outcome: RunResult | None
    stdout: bytes
    notes: list[str]
    error: JournalError | None

    def is_like(self, taken: RecordedRun) -> bool:
        return self.error is None and (self.outcome, self.stdout) == (taken.outcome, taken.stdout)


PROMPT = Guest("prompt", stdin=COMMANDS)
DEEP = Guest("deep", ("300", "50"))
HEARING = frozenset({Trigger.NON_DETERMINISTIC_CALL})
CLOCKS = Guest("clocks", ("3",), every_events=None, on=HEARING)
GROWING = Guest("growing", every_events=4)
MEMORIES = Guest("memories")


def snapshot_options(one: Guest) -> SnapshotOptions:
    return SnapshotOptions(on=one.on, every_events=one.every_events)


def record_snapshots(one: Guest, path: Path, cache: Path) -> RecordedRun:
    with journal.record(
        one.module,
        path,
        args=[one.name, *one.args],
        stdin=one.stdin,
        cache=cache,
        level=one.level,
        durability=journal.engine.Durability.NONE,
        snapshots=snapshot_options(one),
    ) as recorder:
        outcome = wait_for_end(recorder)
    infos = tuple(snapshots_in(path))
    assert len(infos) > 2, "there is something to damage"
    return RecordedRun(one, path, outcome, recorder.stdout, infos)


@pytest.fixture(scope="session")
def taken(
    tmp_path_factory: pytest.TempPathFactory, cache_dir: Path
) -> Callable[[Guest], RecordedRun]:
    """Return a function that records each guest once."""
    known: dict[Guest, RecordedRun] = {}

    def get(one: Guest) -> RecordedRun:
        if one not in known:
            known[one] = record_snapshots(
                one, tmp_path_factory.mktemp("taken") / "run.journal", cache_dir
            )
        return known[one]

    return get


Take = Callable[[Guest], RecordedRun]


def resume_damaged(one: Guest, path: Path, cache: Path, **options: Any) -> ResumeResult:
    """Resume a journal. Errors other than ``JournalError`` propagate."""
    notes: list[str] = []
    options.setdefault("stdin", one.stdin)
    try:
        with journal.resume(
            path,
            cache=cache,
            durability=journal.engine.Durability.NONE,
            note=notes.append,
            **options,
        ) as recorder:
            return ResumeResult(wait_for_end(recorder), recorder.stdout, notes, None)
    except JournalError as error:
        return ResumeResult(None, b"", notes, error)


def keep_upto(info: SnapshotInfo) -> Change:
    """Return a change that keeps the events up to the end of a snapshot."""
    return lambda frames: [frame for frame in frames if frame.seq <= info.seq]


def keep_little_after(info: SnapshotInfo) -> Change:
    """Return a change that keeps two more events, but no later snapshot."""
    return lambda frames: [frame for frame in frames if frame.seq <= info.seq + 2]


def is_in(info: SnapshotInfo, frame: Frame) -> bool:
    assert info.first_seq is not None
    return info.first_seq <= frame.seq <= info.seq


def is_mentioned(seq: int, notes: list[str]) -> bool:
    return any(f"snapshot {seq} " in note for note in notes)


def check_replay(path: Path, cache: Path) -> None:
    """Check the journal and each of its snapshots by replay."""
    for each in (False, True):
        found = journal.verify_replay(path, cache=cache, from_each_snapshot=each)
        assert found.matches, [one for one in found.checks if one.matches is False]
        assert found.result is not None


def recompute_digests(frames: Sequence[Frame]) -> Iterator[Frame]:
    """Yield the frames with a valid digest in each snapshot."""
    pages: dict[int, dict[int, bytes]] = {}
    sizes: dict[int, int] = {}
    payloads: list[bytes] = []
    for frame in frames:
        event = codec.decode(frame.tag, frame.payload) if frame.tag in SNAPSHOT_TAGS else None
        if isinstance(event, SafePoint):
            payloads = []
            if event.whole:
                pages, sizes = {}, {}
        elif isinstance(event, MemoryPages):
            sizes[event.memory] = event.size
            _lay(pages.setdefault(event.memory, {}), event)
        elif isinstance(event, Snapshot):
            digest = paging.compute_state_digest(_sums(pages, sizes), payloads)
            yield frame._replace(payload=codec.encode(alter_event(event, digest=digest)))
            continue
        elif event is not None:
            payloads.append(frame.payload)
        yield frame


def _lay(pages: dict[int, bytes], event: MemoryPages) -> None:
    try:
        for number, kind, data in paging.decode_resolved_pages(event):
            if kind is PageKind.PATCHED:
                data = paging.apply_patch(pages.get(number, paging.ZERO_PAGE), data)
            pages[number] = data or paging.ZERO_PAGE
    except JournalError:
        return  # The digest of invalid pages is undefined.


def _sums(
    pages: dict[int, dict[int, bytes]], sizes: dict[int, int]
) -> Iterator[tuple[int, int, int]]:
    for index, size in sorted(sizes.items()):
        total = 0
        for number, page in pages[index].items():
            if page != paging.ZERO_PAGE:
                total = paging.update_hash_sum(total, paging.hash_page(index, number, page), 0)
        yield index, size, total


def flip_payload_bit(frames: Frames, index: int, bit: int) -> Frames:
    """Return the frames with one flipped bit in a payload."""
    payload = bytearray(frames[index].payload)
    bit %= 8 * len(payload)
    payload[bit // 8] ^= 1 << bit % 8
    return [*frames[:index], frames[index]._replace(payload=bytes(payload)), *frames[index + 1 :]]


def flip_page_bit(frames: Frames, info: SnapshotInfo, chance: random.Random) -> Frames:
    """Return the frames with one flipped bit in the bytes of a memory page."""
    indexes = [
        index
        for index, frame in enumerate(frames)
        if frame.tag == MemoryPages.tag and is_in(info, frame) and find_page_ends(frame)
    ]
    index = chance.choice(indexes)
    event = codec.decode(frames[index].tag, frames[index].payload)
    assert isinstance(event, MemoryPages)
    data = bytearray(event.data)
    data[chance.choice(find_page_ends(frames[index]))] ^= 1 << chance.randrange(8)
    frame = frames[index]._replace(payload=codec.encode(alter_event(event, data=bytes(data))))
    return [*frames[:index], frame, *frames[index + 1 :]]


def find_page_ends(frame: Frame) -> list[int]:
    """Return the index of the last byte of each nonzero page in the data of an event."""
    event = codec.decode(frame.tag, frame.payload)
    assert isinstance(event, MemoryPages)
    found, at = [], 0
    for _, kind, data in paging.decode_resolved_pages(event):
        at += len(data)
        if kind is not PageKind.ZERO:
            found.append(at - 1)
    return found


def journal_events(path: Path) -> list[Event]:
    """Return the events outside snapshots, because those of snapshots may be malformed."""
    frames = frames_of(path)
    return [codec.decode(one.tag, one.payload) for one in frames if one.tag not in SNAPSHOT_TAGS]


def set_fields(kind: type[Event], **changes: Any) -> Callable[[SnapshotInfo], Change]:
    """Return a change of fields in the events of a kind. A callable gets the event."""

    def change_of(info: SnapshotInfo) -> Change:
        def change(frame: Frame) -> Frame:
            if frame.tag != kind.tag or not is_in(info, frame):
                return frame
            event = codec.decode(frame.tag, frame.payload)
            values = {name: new(event) if callable(new) else new for name, new in changes.items()}
            return frame._replace(payload=codec.encode(alter_event(event, **values)))

        return lambda frames: map(change, frames)

    return change_of


def drop(kind: type[Event]) -> Callable[[SnapshotInfo], Change]:
    """Return a change that drops the events of a kind."""
    return lambda info: (
        lambda frames: [
            frame for frame in frames if not (frame.tag == kind.tag and is_in(info, frame))
        ]
    )


def insert(*events: Event) -> Callable[[SnapshotInfo], Change]:
    """Return a change that inserts events before the Snapshot event."""
    return lambda info: (
        lambda frames: [
            *frames[:-1],
            *(frames[-1]._replace(tag=one.tag, payload=codec.encode(one)) for one in events),
            frames[-1],
        ]
    )


def forge(
    whole: RecordedRun,
    info: SnapshotInfo,
    made: Callable[[SnapshotInfo], Change],
    path: Path,
    *,
    digest: bool = True,
) -> None:
    """Change the last snapshot of a journal. With ``digest``, keep its digest valid."""

    def change(frames: Frames) -> Iterable[Frame]:
        found = list(made(info)(list(keep_upto(info)(frames))))
        return recompute_digests(found) if digest else found

    rewrite(whole.path, path, change)
