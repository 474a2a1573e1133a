"""What a filtered journal can be used for: told of columns, as it would be told row by row."""

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
TELLING: list[type[Event]] = [
    *(Mount, ModulePart, InstrumentedPart, FilePlaced, SessionStart, StreamWrite, ProcessExit),
    *(ClockRead, HostResult, FileDescriptorWrite),
]
"""The kinds on which most depends."""
Frames = list[tuple[int, bytes]]


def stood_still(whole: bool, entry: str, code: bool) -> tuple[int, bytes]:
    point = SafePoint(
        calls=1, monotonic=0, code=bytes([code] * 32), whole=whole, entry=entry, function=""
    )
    return SafePoint.tag, codec.encode(point)


def bare(tags: st.SearchStrategy[int]) -> st.SearchStrategy[tuple[int, bytes]]:
    """Events that nobody looks into, or cannot: their payloads are nothing."""
    return tags.map(lambda tag: (tag, b""))


OTHERS = bare(st.sampled_from([kind.tag for kind in TELLING]))
ANY = bare(st.sampled_from([*BY_TAG, UNKNOWN_TAG]))
POINTS = st.builds(stood_still, st.booleans(), st.sampled_from(["", "_start"]), st.booleans())
PARTS = bare(st.sampled_from([MemoryPages.tag, SetThread.tag, TtySet.tag, ClockRead.tag]))
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
def stories(draw: st.DrawFn) -> list[Row]:
    """Events of a process, most of the time, and which are kept: but for some, and for kinds."""
    pieces = draw(st.lists(PIECES, max_size=12))
    frames = [draw(STARTS)] if draw(st.integers(0, 9)) else []
    frames += [frame for piece in pieces for frame in piece]
    unwanted = draw(st.frozensets(st.sampled_from(sorted({*(tag for tag, _ in frames), 1}))))
    unwanted = unwanted if draw(st.booleans()) else frozenset()
    odd = draw(st.frozensets(st.integers(0, len(frames)), max_size=4))
    steps = draw(st.lists(st.integers(1, 3), min_size=len(frames), max_size=len(frames)))
    rows, seq = [], draw(st.integers(0, 9))
    for at, ((tag, payload), step) in enumerate(zip(frames, steps, strict=True)):
        rows.append(Row(seq, tag, payload, (tag not in unwanted) is not (at in odd)))
        seq += step
    return rows


def in_blocks(rows: list[Row], lengths: list[int]) -> list[list[Row]]:
    """The rows in blocks of these lengths, again and again."""
    ends: list[int] = []
    for at in range(len(rows)):
        ends += [at] * lengths[at % len(lengths)]
    pairs = zip(ends, rows, strict=False)
    return [[row for _, row in block] for _, block in groupby(pairs, key=lambda pair: pair[0])]


def seen(use: ResumabilityAnalysis, block: list[Row]) -> None:
    tags, mask = bytes(row.tag for row in block), bytes(row.is_kept for row in block)
    use.add_block(
        *partition_tags(tags, mask), [row.seq for row in block], lambda at: block[at].payload
    )


def answers(use: ResumabilityAnalysis | PlainResumabilityAnalysis) -> tuple[object, ...]:
    return tuple(use.result), use.needs_not_resumable_flag, use.has_gaps


def of_inputs(*are_kept: bool) -> list[Row]:
    """A whole beginning, and reads of the clock."""
    frames = [process_start_row(RecordingLevel.FULL, False, False), (SessionStart.tag, b"")]
    frames += [(ClockRead.tag, b"")] * len(are_kept)
    stays = (True, True, *are_kept)
    return [
        Row(seq, *frame, kept) for seq, (frame, kept) in enumerate(zip(frames, stays, strict=True))
    ]


@given(stories(), st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(1, 20))
@example(of_inputs(False, True, False, True), [1], 1).via("the first of a kind in several runs")
def test_columns_tell_what_rows_tell(rows: list[Row], lengths: list[int], count: int) -> None:
    use = ResumabilityAnalysis()
    with patch.object(parting, "BATCH_COUNT_MIN", count):
        for block in in_blocks(rows, lengths):
            seen(use, block)
    plain = PlainResumabilityAnalysis(rows)
    assert answers(use) == answers(plain)
    assert use.kept == Counter(row.tag for row in plain.kept)
    assert use.dropped == Counter(row.tag for row in plain.gone)
    assert use.next_seq == max((row.seq + 1 for row in plain.kept), default=0)


@given(stories(), st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_an_answer_may_be_asked_for_at_any_time(rows: list[Row], lengths: list[int]) -> None:
    use, so_far = ResumabilityAnalysis(), []
    for block in in_blocks(rows, lengths):
        seen(use, block)
        so_far += block
        assert answers(use) == answers(PlainResumabilityAnalysis(so_far))


@given(st.lists(st.tuples(st.integers(1, 254), st.booleans())))
def test_a_column_is_parted_in_what_stays_and_what_does_not(rows: list[tuple[int, bool]]) -> None:
    tags, mask = bytes(tag for tag, _ in rows), bytes(stays for _, stays in rows)
    kept, gone = partition_tags(tags, mask)
    assert kept == bytes(tag if stays else 0 for tag, stays in rows)
    assert gone == bytes(0 if stays else tag for tag, stays in rows)
