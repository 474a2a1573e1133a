"""Resumability of filtered journals: analysis by columns agrees with analysis by rows."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from unittest.mock import patch

from hypothesis import example, given
from hypothesis import strategies as st

from journal.events import BY_TAG, codec
from journal.events.core import ProcessExit, TtySet
from journal.events.definition import Event
from journal.events.descriptors import FileDescriptorWrite
from journal.events.inputs import ClockRead, HostResult
from journal.events.memory import MemoryPages
from journal.events.paths import FilePlaced
from journal.events.process import (
    InstrumentedPart,
    ModulePart,
    Mount,
    RecordingLevel,
    SessionStart,
)
from journal.events.snapshots import SafePoint, Snapshot
from journal.events.streams import StreamWrite
from journal.events.threads import SetThread
from journal.format import tag_partition as parting
from journal.format.tag_partition import partition_tags
from journal.snapshots.resumability import ResumabilityAnalysis
from tests.support.plain_resumability import PlainResumabilityAnalysis, Row, process_start_row

UNKNOWN_TAG = 200
DECISIVE_KINDS: list[type[Event]] = [
    *(Mount, ModulePart, InstrumentedPart, FilePlaced, SessionStart, StreamWrite, ProcessExit),
    *(ClockRead, HostResult, FileDescriptorWrite),
]
"""The kinds that decide most about resumability."""
Frames = list[tuple[int, bytes]]


def safe_point(whole: bool, entry: str, code: bool) -> tuple[int, bytes]:
    point = SafePoint(
        calls=1, monotonic=0, code=bytes([code] * 32), whole=whole, entry=entry, function=""
    )
    return SafePoint.tag, codec.encode(point)


def without_payload(tags: st.SearchStrategy[int]) -> st.SearchStrategy[tuple[int, bytes]]:
    """Generate events with empty payloads, which the analysis does not decode."""
    return tags.map(lambda tag: (tag, b""))


OTHERS = without_payload(st.sampled_from([kind.tag for kind in DECISIVE_KINDS]))
ANY = without_payload(st.sampled_from([*BY_TAG, UNKNOWN_TAG]))
POINTS = st.builds(safe_point, st.booleans(), st.sampled_from(["", "_start"]), st.booleans())
PARTS = without_payload(
    st.sampled_from([MemoryPages.tag, SetThread.tag, TtySet.tag, ClockRead.tag])
)
SNAPSHOTS: st.SearchStrategy[Frames] = st.builds(
    lambda point, parts: [point, *parts, (Snapshot.tag, b"")], POINTS, st.lists(PARTS, max_size=3)
)
STARTS = st.builds(
    process_start_row,
    st.sampled_from(RecordingLevel),
    st.booleans(),
    st.sampled_from([False] * 3 + [True]),
)
PIECES = SNAPSHOTS | (OTHERS | ANY | POINTS | STARTS).map(lambda frame: [frame])


@st.composite
def histories(draw: st.DrawFn) -> list[Row]:
    """Generate rows, mostly of a process; rows of some kinds are dropped, with exceptions."""
    pieces = draw(st.lists(PIECES, max_size=12))
    frames = [draw(STARTS)] if draw(st.integers(0, 9)) else []
    frames += [frame for piece in pieces for frame in piece]
    dropped_tags = draw(st.frozensets(st.sampled_from(sorted({*(tag for tag, _ in frames), 1}))))
    dropped_tags = dropped_tags if draw(st.booleans()) else frozenset()
    exceptions = draw(st.frozensets(st.integers(0, len(frames)), max_size=4))
    steps = draw(st.lists(st.integers(1, 3), min_size=len(frames), max_size=len(frames)))
    rows, seq = [], draw(st.integers(0, 9))
    for at, ((tag, payload), step) in enumerate(zip(frames, steps, strict=True)):
        rows.append(Row(seq, tag, payload, (tag not in dropped_tags) is not (at in exceptions)))
        seq += step
    return rows


def group_in_blocks(rows: list[Row], lengths: list[int]) -> list[list[Row]]:
    """Group the rows in blocks of these lengths, repeated."""
    ends: list[int] = []
    for at in range(len(rows)):
        ends += [at] * lengths[at % len(lengths)]
    pairs = zip(ends, rows, strict=False)
    return [[row for _, row in block] for _, block in groupby(pairs, key=lambda pair: pair[0])]


def add_block(analysis: ResumabilityAnalysis, block: list[Row]) -> None:
    tags, mask = bytes(row.tag for row in block), bytes(row.is_kept for row in block)
    analysis.add_block(
        *partition_tags(tags, mask), [row.seq for row in block], lambda at: block[at].payload
    )


def results(analysis: ResumabilityAnalysis | PlainResumabilityAnalysis) -> tuple[object, ...]:
    return tuple(analysis.result), analysis.needs_not_resumable_flag, analysis.has_gaps


def clock_reads(*are_kept: bool) -> list[Row]:
    """Return a complete preamble and clock reads."""
    frames = [process_start_row(RecordingLevel.FULL, False, False), (SessionStart.tag, b"")]
    frames += [(ClockRead.tag, b"")] * len(are_kept)
    mask = (True, True, *are_kept)
    return [
        Row(seq, *frame, kept) for seq, (frame, kept) in enumerate(zip(frames, mask, strict=True))
    ]


@given(histories(), st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(1, 20))
@example(clock_reads(False, True, False, True), [1], 1).via("the first of a kind in several runs")
def test_analysis_by_columns_equals_analysis_by_rows(
    rows: list[Row], lengths: list[int], count: int
) -> None:
    analysis = ResumabilityAnalysis()
    with patch.object(parting, "BATCH_COUNT_MIN", count):
        for block in group_in_blocks(rows, lengths):
            add_block(analysis, block)
    plain = PlainResumabilityAnalysis(rows)
    assert results(analysis) == results(plain)
    assert analysis.kept == Counter(row.tag for row in plain.kept)
    assert analysis.dropped == Counter(row.tag for row in plain.gone)
    assert analysis.next_seq == max((row.seq + 1 for row in plain.kept), default=0)


@given(histories(), st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_a_result_is_available_after_each_block(rows: list[Row], lengths: list[int]) -> None:
    analysis, so_far = ResumabilityAnalysis(), []
    for block in group_in_blocks(rows, lengths):
        add_block(analysis, block)
        so_far += block
        assert results(analysis) == results(PlainResumabilityAnalysis(so_far))


@given(st.lists(st.tuples(st.integers(1, 254), st.booleans())))
def test_a_column_is_partitioned_in_kept_and_dropped_tags(rows: list[tuple[int, bool]]) -> None:
    tags, mask = bytes(tag for tag, _ in rows), bytes(is_kept for _, is_kept in rows)
    kept, dropped = partition_tags(tags, mask)
    assert kept == bytes(tag if is_kept else 0 for tag, is_kept in rows)
    assert dropped == bytes(0 if is_kept else tag for tag, is_kept in rows)
