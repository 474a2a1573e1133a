"""One property of all that makes journals of journals: they play to the same states, and go on.

Each operation keeps what it should, alone and behind others, in any order.
"""

from __future__ import annotations

import importlib.util
import io
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import journal
from journal import Frame, Query, Reader, Writer
from journal.adapters import (
    CombinedJournal,
    CompactingSink,
    ConcatenatedSource,
    CountingSink,
    FilteredSink,
    FilteredSource,
    ForwardingSink,
    MemoryJournal,
    PrintingSink,
    Sink,
    Transaction,
    copy,
)
from journal.compaction import RetentionPolicy, compact, compact_in_place
from journal.events.process import InstrumentedPart, ProcessStart, RecordingLevel, Seal
from journal.export import export_lines, import_lines
from journal.export.parquet import export_parquet, import_parquet
from journal.log import RollPolicy
from journal.operations.concat import concat
from journal.operations.split import split
from journal.replay import ReplayLimits
from journal.rewrite.block_builder import BlockBuilder
from tests.support import compaction_histories as compacted
from tests.support.compaction_histories import (
    Story,
    foreign,
    frames_of,
    history,
    kept_of,
    playable,
    states_of,
    write_story,
)
from tests.support.snapshot_guests import SNAPSHOT_GUESTS, SnapshotGuest
from tests.support.snapshot_runs import Run, pick_evenly, record_often, resume_guest

Make = Callable[[Path, Path, Random], None]
"""An operation: from a journal to another, which is made."""


def compacting(source: Path, target: Path, random: Random) -> None:
    compact(source, target, policy=RetentionPolicy(keep_last=random.choice([1, 2, 99])))


def compacting_in_place(source: Path, target: Path, random: Random) -> None:
    shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    compact_in_place(target, policy=RetentionPolicy(keep_last=random.choice([1, 2, 99])))


def filtering(source: Path, target: Path, random: Random) -> None:
    """Keep all, or drop nothing: the seal alone goes, which every rewriting leaves out."""
    which, keep = random.choice(
        [(Query(), True), (Query(start=1 << 40), False), (Query(where="tag >= 1"), True)]
    )
    found = journal.filter(source, target, which, keep=keep)
    assert set(found.dropped) <= {Seal.tag}


def splitting(source: Path, target: Path, random: Random) -> None:
    """In parts at numbers, at snapshots, or by size, and joined again."""
    frames, parts = frames_of(source), target.with_suffix(".parts")
    numbers = [frame.seq for frame in frames[1:]]
    at = random.sample(numbers, min(len(numbers), 3))
    size = random.choice([None, 5000])
    split(source, parts, at=at, snapshots=not at or random.random() < 0.5, size=size)
    concat(sorted(parts.iterdir()), target)


def lines(source: Path, target: Path, random: Random) -> None:
    out = io.BytesIO()
    export_lines(source, out)
    out.seek(0)
    import_lines(out, target)


def table(source: Path, target: Path, random: Random) -> None:
    rows = target.with_suffix(".parquet")
    with rows.open("wb") as out:
        export_parquet(source, out)
    import_parquet(rows, target)


def recovering(source: Path, target: Path, random: Random) -> None:
    journal.salvage(source, target)


def segments(source: Path, target: Path, random: Random) -> None:
    """Into a directory of many segments."""
    with (
        Reader(source) as reader,
        Writer(target, roll=RollPolicy(4096), journal_id=reader.journal_id) as w,
    ):
        gatherer = BlockBuilder(w)
        for frame in reader.frames():
            gatherer.add(*frame[:4])
            if random.random() < 0.1:
                gatherer.flush()
        gatherer.flush()


def through_shapes(source: Path, target: Path, random: Random) -> None:
    """ForwardingSink several; over holes numbers would be others, and another copy is made."""
    frames = frames_of(source)
    if [frame.seq for frame in frames] != list(range(len(frames))):
        recovering(source, target, random)
        return
    with Reader(source) as reader:
        done = 0

        def now() -> int:
            return frames[min(done, len(frames) - 1)].time

        def told(line: str) -> None:
            nonlocal done
            done += 1

        sink: Sink = PrintingSink(Writer(target, journal_id=reader.journal_id, clock=now), told)
        for layer in random.sample(_LAYERS, len(_LAYERS)):
            sink = layer(sink)
        whole = FilteredSource(ConcatenatedSource([reader]), range(1, 255))
        assert copy(whole, sink) == len(frames)
        at = sink
        while isinstance(at, ForwardingSink):
            if isinstance(at, Transaction):
                at.commit()
            at = at.inner
        at.close()


def in_line(source: Path, target: Path, random: Random) -> None:
    """Compacted window by window; over holes numbers would be others, and a copy is made."""
    frames = frames_of(source)
    if [frame.seq for frame in frames] != list(range(len(frames))):
        recovering(source, target, random)
        return
    with Reader(source) as reader:
        writer = Writer(target, journal_id=reader.journal_id)
        clock, events_max = _clock(frames), random.choice([3, 40, 65535])
        with CompactingSink(writer, events_max=events_max, clock=clock) as sink:
            for frame in reader.frames():
                sink.append_frame(frame.tag, frame.payload)
                if random.random() < 0.01:
                    sink.sync()


def _clock(frames: Sequence[Frame]) -> Callable[[], int]:
    return iter([frame.time for frame in frames]).__next__


_LAYERS: list[Callable[[Sink], Sink]] = [
    CountingSink,
    Transaction,
    lambda inner: FilteredSink(inner, range(1, 255)),
    lambda inner: CombinedJournal(inner, MemoryJournal()),
]


OPERATIONS: dict[str, Make] = {
    "compacted": compacting,
    "compacted in place": compacting_in_place,
    "compacted in line": in_line,
    "filtered": filtering,
    "split and joined": splitting,
    "as lines": lines,
    "as a table": table,
    "recovered": recovering,
    "in segments": segments,
    "through shapes": through_shapes,
}
if importlib.util.find_spec("pyarrow") is None:
    del OPERATIONS["as a table"]
SHORTER = {"compacted", "compacted in place", "compacted in line"}
chains = st.lists(st.sampled_from(sorted(OPERATIONS)), min_size=1, max_size=3)


def made(source: Path, chain: Sequence[str], seed: int) -> Path:
    """What the operations make of a journal, one behind the other."""
    random, at = Random(seed), source
    for number, name in enumerate(chain):
        target = source.with_name(f"{number}-{name.replace(' ', '-')}")
        OPERATIONS[name](at, target, random)
        at = target
    return at


def check(source: Path, target: Path, chain: Sequence[str]) -> list[int]:
    """The states are the same at each snapshot that is left, and at the end; give the snapshots."""
    before, after = frames_of(source), frames_of(target)
    seqs = kept_of(after)
    if SHORTER.isdisjoint(chain):
        assert [frame for frame in before if frame.tag != Seal.tag] == [
            frame for frame in after if frame.tag != Seal.tag
        ]
    assert set(seqs) <= set(kept_of(before))
    assert not kept_of(before) or seqs[-1] == kept_of(before)[-1]
    assert states_of(after, seqs) == states_of(before, seqs)
    with Reader(source) as one, Reader(target) as other:
        assert one.journal_id == other.journal_id
        assert list(other.verify()) == []
    return seqs


# -- generated ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Told:
    """A history that is written down in a journal: of ours at a level, or of another runtime.

    It may lack what says what ran, as a part of a journal does.
    """

    seed: int
    steps: int
    level: RecordingLevel | None
    is_part: bool = False

    @property
    def story(self) -> Story:
        """The history."""
        if self.level is None:
            return foreign(self.seed, self.steps, 9)
        story = history(self.seed, self.steps, 15, self.level)
        return playable([row for row in story if row[0] not in PREAMBLE]) if self.is_part else story


PREAMBLE = {ProcessStart.tag, InstrumentedPart.tag}
stories = st.builds(
    Told,
    st.integers(0, 1 << 32),
    st.integers(1, 90),
    st.sampled_from([RecordingLevel.FULL, RecordingLevel.STATE, None]),
    st.booleans(),
)


@given(stories, chains, st.integers(0, 1 << 16))
def test_any_chain_of_operations_leads_to_the_same_states(
    told: Told, chain: list[str], seed: int
) -> None:
    with TemporaryDirectory() as name:
        source = write_story(Path(name) / "source", told.story)
        check(source, made(source, chain, seed), chain)


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_each_operation_leads_to_the_same_states(name: str, tmp_path: Path) -> None:
    told = (
        (RecordingLevel.FULL, False),
        (RecordingLevel.STATE, False),
        (None, False),
        (RecordingLevel.FULL, True),
    )
    for number, (level, is_part) in enumerate(told):
        folder = tmp_path / str(number)
        folder.mkdir()
        source = write_story(folder / "source", Told(number, 150, level, is_part).story)
        check(source, made(source, [name], number), [name])


# -- recorded -------------------------------------------------------------------------------------

QUICK = ("descriptors in memory",)
OTHERS = ("deep", "memories", "stdin", "prompt", "sleeper")
RECORDED = [one for one in SNAPSHOT_GUESTS if one.title in (*QUICK, *OTHERS)]
QUICK_ONES = ("compacted in line", "split and joined", "as lines")
RESUMED_MAX = 2


@dataclass(frozen=True)
class Recording:
    """A guest's journal with snapshots, and how it ran."""

    one: SnapshotGuest
    path: Path
    run: Run
    cache: Path


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(one, id=one.title, marks=[] if one.title in QUICK else [pytest.mark.deep])
        for one in RECORDED
    ],
)
def recording(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, cache_dir: Path
) -> Recording:
    folder = tmp_path_factory.mktemp("toolkit")
    (folder / "cache").mkdir()
    modules = folder / "cache" / "modules"  # images are of one journal: each test has its own
    modules.symlink_to(cache_dir)
    run, _ = record_often(request.param, folder / "run.journal", modules)
    return Recording(request.param, folder / "run.journal", run, modules)


def check_recorded(recording: Recording, chain: Sequence[str], seed: int) -> None:
    """The states are the same, and from what is left the guest goes on to the same end."""
    with TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(compacted, "LIMITS", ReplayLimits(memory_size_max=1 << 32))
        source = Path(shutil.copy(recording.path, name))
        modules = Path(name) / "cache" / "modules"
        modules.parent.mkdir()
        modules.symlink_to(recording.cache.readlink())
        target = made(source, chain, seed)
        seqs = check(source, target, chain)
        with Reader(target) as reader:
            infos = [info for info in journal.list_snapshots(reader) if info.resumable]
        assert [info.seq for info in infos] == seqs
        for info in pick_evenly(infos, RESUMED_MAX)[-RESUMED_MAX:]:
            found = resume_guest(recording.one, target, modules, at=info.seq)
            assert found == recording.run, f"from {info.seq}"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in QUICK_ONES else [pytest.mark.deep])
        for name in sorted(OPERATIONS)
    ],
)
def test_a_guest_goes_on_from_what_each_operation_makes(name: str, recording: Recording) -> None:
    check_recorded(recording, [name], 1)


@pytest.mark.deep
@settings(max_examples=5)
@example(chain=["compacted in line", "split and joined", "compacted"], seed=1)
@example(chain=["compacted", "as lines", "in segments"], seed=2)
@given(chains, st.integers(0, 1 << 16))
def test_a_guest_goes_on_from_what_any_chain_of_operations_makes(
    recording: Recording, chain: list[str], seed: int
) -> None:
    check_recorded(recording, chain, seed)
