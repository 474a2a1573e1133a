"""Operations that rewrite journals keep the states and the ability to resume.

The property holds for each operation alone and for chains of operations in any order.
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
from journal.events.process import InstrumentedPart, ParentLink, ProcessStart, RecordingLevel, Seal
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
    keep_playable,
    kept_of,
    states_of,
    write_story,
)
from tests.support.snapshot_guests import SNAPSHOT_GUESTS, SnapshotGuest
from tests.support.snapshot_runs import Run, pick_evenly, record_often, resume_guest

Operation = Callable[[Path, Path, Random], None]
"""An operation that writes a new journal from a source."""


def compact_journal(source: Path, target: Path, random: Random) -> None:
    compact(source, target, policy=RetentionPolicy(keep_last=random.choice([1, 2, 99])))


def compact_copy_in_place(source: Path, target: Path, random: Random) -> None:
    shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    compact_in_place(target, policy=RetentionPolicy(keep_last=random.choice([1, 2, 99])))


def filter_journal(source: Path, target: Path, random: Random) -> None:
    """Keep every event except the seal, which every rewrite leaves out."""
    query, keep = random.choice(
        [(Query(), True), (Query(start=1 << 40), False), (Query(where="tag >= 1"), True)]
    )
    result = journal.filter(source, target, query, keep=keep)
    assert set(result.dropped) <= {Seal.tag}


def split_and_join(source: Path, target: Path, random: Random) -> None:
    """Split at events, at snapshots or by size, and join the parts."""
    frames, parts = frames_of(source), target.with_suffix(".parts")
    numbers = [frame.seq for frame in frames[1:]]
    at = random.sample(numbers, min(len(numbers), 3))
    size = random.choice([None, 5000])
    split(source, parts, at=at, snapshots=not at or random.random() < 0.5, size=size)
    concat(sorted(parts.iterdir()), target)


def convert_to_lines(source: Path, target: Path, random: Random) -> None:
    out = io.BytesIO()
    export_lines(source, out)
    out.seek(0)
    import_lines(out, target)


def convert_to_table(source: Path, target: Path, random: Random) -> None:
    rows = target.with_suffix(".parquet")
    with rows.open("wb") as out:
        export_parquet(source, out)
    import_parquet(rows, target)


def recover_journal(source: Path, target: Path, random: Random) -> None:
    journal.salvage(source, target)


def fork_at_end(source: Path, target: Path, random: Random) -> None:
    """Fork after the last event. The source is removed: a fork does not need it."""
    whole = target.with_suffix(".parent")
    source.rename(whole)
    journal.fork(whole, target, at=frames_of(whole)[-1].seq, reseed=False)
    shutil.copytree(whole, source) if whole.is_dir() else shutil.copy(whole, source)
    shutil.rmtree(whole) if whole.is_dir() else whole.unlink()


def copy_to_segments(source: Path, target: Path, random: Random) -> None:
    """Copy the events to a directory of many segments."""
    with (
        Reader(source) as reader,
        Writer(target, roll=RollPolicy(4096), journal_id=reader.journal_id) as w,
    ):
        builder = BlockBuilder(w)
        for frame in reader.frames():
            builder.add(*frame[:4])
            if random.random() < 0.1:
                builder.flush()
        builder.flush()


def copy_through_adapters(source: Path, target: Path, random: Random) -> None:
    """Copy through several adapters. Salvage a journal with gaps: adapters renumber events."""
    frames = frames_of(source)
    if [frame.seq for frame in frames] != list(range(len(frames))):
        recover_journal(source, target, random)
        return
    with Reader(source) as reader:
        done = 0

        def now() -> int:
            return frames[min(done, len(frames) - 1)].time

        def spec(line: str) -> None:
            nonlocal done
            done += 1

        sink: Sink = PrintingSink(Writer(target, journal_id=reader.journal_id, clock=now), spec)
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


def compact_in_sink(source: Path, target: Path, random: Random) -> None:
    """Compact in a sink, by windows. Salvage a journal with gaps: a sink renumbers events."""
    frames = frames_of(source)
    if [frame.seq for frame in frames] != list(range(len(frames))):
        recover_journal(source, target, random)
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


OPERATIONS: dict[str, Operation] = {
    "compacted": compact_journal,
    "compacted in place": compact_copy_in_place,
    "compacted in a sink": compact_in_sink,
    "filtered": filter_journal,
    "split and joined": split_and_join,
    "as lines": convert_to_lines,
    "as a table": convert_to_table,
    "recovered": recover_journal,
    "forked": fork_at_end,
    "in segments": copy_to_segments,
    "through adapters": copy_through_adapters,
}
if importlib.util.find_spec("pyarrow") is None:
    del OPERATIONS["as a table"]
COMPACTING_OPERATIONS = {"compacted", "compacted in place", "compacted in a sink"}
chains = st.lists(st.sampled_from(sorted(OPERATIONS)), min_size=1, max_size=3)


def apply_chain(source: Path, chain: Sequence[str], seed: int) -> Path:
    """Apply the operations in turn and return the last journal."""
    random, at = Random(seed), source
    for number, name in enumerate(chain):
        target = source.with_name(f"{number}-{name.replace(' ', '-')}")
        OPERATIONS[name](at, target, random)
        at = target
    return at


def _without_links(path: Path) -> list[Frame]:
    """Return the frames of a journal, without the links that forks add."""
    return [frame for frame in frames_of(path) if frame.tag != ParentLink.tag]


def check_states(source: Path, target: Path, chain: Sequence[str]) -> list[int]:
    """Compare the states at each remaining snapshot and at the end; return those snapshots."""
    before, after = _without_links(source), _without_links(target)
    seqs = kept_of(after)
    if COMPACTING_OPERATIONS.isdisjoint(chain):
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
class GeneratedHistory:
    """A history of our runtime at a recording level, or of another runtime if ``level`` is None.

    With ``is_part`` the history lacks the start of the process, like a part of a split journal.
    """

    seed: int
    steps: int
    level: RecordingLevel | None
    is_part: bool = False

    @property
    def story(self) -> Story:
        """The generated events."""
        if self.level is None:
            return foreign(self.seed, self.steps, 9)
        story = history(self.seed, self.steps, 15, self.level)
        return (
            keep_playable([row for row in story if row[0] not in PREAMBLE])
            if self.is_part
            else story
        )


PREAMBLE = {ProcessStart.tag, InstrumentedPart.tag}
stories = st.builds(
    GeneratedHistory,
    st.integers(0, 1 << 32),
    st.integers(1, 90),
    st.sampled_from([RecordingLevel.FULL, RecordingLevel.STATE, None]),
    st.booleans(),
)


@given(stories, chains, st.integers(0, 1 << 16))
def test_any_chain_of_operations_leads_to_the_same_states(
    spec: GeneratedHistory, chain: list[str], seed: int
) -> None:
    with TemporaryDirectory() as name:
        source = write_story(Path(name) / "source", spec.story)
        check_states(source, apply_chain(source, chain, seed), chain)


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_each_operation_leads_to_the_same_states(name: str, tmp_path: Path) -> None:
    spec = (
        (RecordingLevel.FULL, False),
        (RecordingLevel.STATE, False),
        (None, False),
        (RecordingLevel.FULL, True),
    )
    for number, (level, is_part) in enumerate(spec):
        folder = tmp_path / str(number)
        folder.mkdir()
        source = write_story(folder / "source", GeneratedHistory(number, 150, level, is_part).story)
        check_states(source, apply_chain(source, [name], number), [name])


# -- recorded -------------------------------------------------------------------------------------

QUICK_GUESTS = ("descriptors in memory",)
SLOW_GUESTS = ("deep", "memories", "stdin", "prompt", "sleeper")
RECORDED_GUESTS = [one for one in SNAPSHOT_GUESTS if one.title in (*QUICK_GUESTS, *SLOW_GUESTS)]
QUICK_OPERATIONS = ("compacted in a sink", "split and joined", "as lines")
RESUMED_MAX = 2


@dataclass(frozen=True)
class Recording:
    """The journal of a guest with snapshots, and the result of its run."""

    one: SnapshotGuest
    path: Path
    run: Run
    cache: Path


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(
            one, id=one.title, marks=[] if one.title in QUICK_GUESTS else [pytest.mark.deep]
        )
        for one in RECORDED_GUESTS
    ],
)
def recording(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, cache_dir: Path
) -> Recording:
    folder = tmp_path_factory.mktemp("toolkit")
    (folder / "cache").mkdir()
    modules = folder / "cache" / "modules"  # Images belong to one journal.
    modules.symlink_to(cache_dir)
    run, _ = record_often(request.param, folder / "run.journal", modules)
    return Recording(request.param, folder / "run.journal", run, modules)


def check_recorded(recording: Recording, chain: Sequence[str], seed: int) -> None:
    """Compare the states, and resume the guest from remaining snapshots to the same end."""
    with TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(compacted, "LIMITS", ReplayLimits(memory_size_max=1 << 32))
        source = Path(shutil.copy(recording.path, name))
        modules = Path(name) / "cache" / "modules"
        modules.parent.mkdir()
        modules.symlink_to(recording.cache.readlink())
        target = apply_chain(source, chain, seed)
        seqs = check_states(source, target, chain)
        with Reader(target) as reader:
            infos = [info for info in journal.list_snapshots(reader) if info.resumable]
        assert [info.seq for info in infos] == seqs
        for info in pick_evenly(infos, RESUMED_MAX)[-RESUMED_MAX:]:
            result = resume_guest(recording.one, target, modules, at=info.seq)
            assert result == recording.run, f"from {info.seq}"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in QUICK_OPERATIONS else [pytest.mark.deep])
        for name in sorted(OPERATIONS)
    ],
)
def test_a_guest_resumes_from_the_journal_of_each_operation(
    name: str, recording: Recording
) -> None:
    check_recorded(recording, [name], 1)


@pytest.mark.deep
@settings(max_examples=5)
@example(chain=["compacted in a sink", "split and joined", "compacted"], seed=1)
@example(chain=["compacted", "as lines", "in segments"], seed=2)
@given(chains, st.integers(0, 1 << 16))
def test_a_guest_resumes_from_the_journal_of_any_chain_of_operations(
    recording: Recording, chain: list[str], seed: int
) -> None:
    check_recorded(recording, chain, seed)
