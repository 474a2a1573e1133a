"""The stats command, compared with counts of each event."""

from __future__ import annotations

import json
import subprocess
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import journal
from journal.events import BY_TAG, codec
from journal.events.definition import Event
from journal.events.inputs import ClockRead
from journal.events.memory import PAGE_SIZE, MemoryPages, PageKind
from journal.events.snapshots import Snapshot, Trigger
from journal.events.streams import StreamWrite
from journal.operations import statistics
from journal.pages import encoding
from journal.pages.encoding import ChangedPage, encode_pages
from tests.support.command_line import run_inside, run_tool
from tests.support.journals import make_clock
from tests.support.strategies import every_event


def write_blocks(path: Path, *blocks: list[Event], step: int = 10) -> None:
    with journal.Writer(path, clock=make_clock(1_000_000, step)) as writer:
        for events in blocks:
            for event in events:
                writer.append(event)
            writer.sync()


def read_stats(path: Path) -> dict[str, Any]:
    done = run_inside("stats", "--json", path.name, at=path.parent)
    assert done.returncode == 0
    report = json.loads(done.stdout)
    assert isinstance(report, dict)
    return report


@given(st.lists(st.lists(every_event(), max_size=20), max_size=4), st.sampled_from([0, 7, 10**7]))
def test_statistics_equal_counts_of_each_event(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[list[Event]], step: int
) -> None:
    path = tmp_path_factory.mktemp("stats") / "a"
    write_blocks(path, *blocks, step=step)
    with journal.Reader(path) as reader:
        frames = list(reader.frames())
    report = statistics.collect_statistics(path)
    assert {tag: kind.events for tag, kind in report.kinds.items()} == Counter(
        f.tag for f in frames
    )
    sizes: Counter[int] = Counter()
    for frame in frames:
        sizes[frame.tag] += len(frame.payload)
    assert {tag: kind.size for tag, kind in report.kinds.items()} == {
        frame.tag: sizes[frame.tag] for frame in frames
    }
    assert report.payload_size == sum(sizes.values())
    assert sum(report.timeline) == report.events == len(frames)
    if frames:
        first, span = frames[0].time, frames[-1].time - frames[0].time + 1
        steps: Counter[int] = Counter()
        for frame in frames:
            steps[(frame.time - first) * statistics.BINS // span] += 1
        assert report.timeline == [steps[at] for at in range(statistics.BINS)]


def test_sizes_add_up_to_the_file_size(tmp_path: Path) -> None:
    texts = [StreamWrite(stream=1, offset=n, data=b"text " * (n % 40)) for n in range(3000)]
    write_blocks(tmp_path / "a", [*texts], [ClockRead(clock=1, time=1)])
    report = read_stats(tmp_path / "a")
    parts = report["stored_size"] + report["columns_size"] + report["headers_size"]
    assert 0 < report["size"] - parts <= 200  # This is the segment header.
    assert report["stored_size"] < report["payload_size"] / 5
    assert report["compressed_blocks"] >= 1
    assert sum(one["share"] for one in report["kinds"]) == pytest.approx(1)
    assert [one["kind"] for one in report["kinds"]] == ["StreamWrite", "ClockRead"]


def make_page_events(*changes: tuple[int, bytes, bytes]) -> list[Event]:
    return list(encode_pages(0, 64 * PAGE_SIZE, [ChangedPage(*change) for change in changes]))


def test_pages_are_counted_by_kind(tmp_path: Path) -> None:
    zero, one, two = bytes(PAGE_SIZE), b"1" * PAGE_SIZE, b"2" * PAGE_SIZE
    patched = b"x" * 16 + one[16:]
    closed = Snapshot(when=0, trigger=Trigger.EXPLICIT)
    blocks: list[list[Event]] = [
        [*make_page_events((0, one, zero), (1, one, zero), (2, two, zero)), closed],
        [*make_page_events((0, patched, one), (1, zero, one)), closed],
        [MemoryPages(memory=0, size=5, numbers=(1,), kinds=b"\1", data=b"")],
    ]
    write_blocks(tmp_path / "a", *blocks)
    report = read_stats(tmp_path / "a")
    size = len(encoding.make_patch(ChangedPage(0, patched, one)) or b"")
    assert report["snapshots"] == 2
    assert report["pages"] == {
        "count": 5, "whole": 3, "patched": 1, "zero": 1, "same": 0, "patch_size": size,
        "numbers": 3, "contents": 2, "at_least": False, "malformed": 1,
    }  # fmt: skip
    text = run_inside("stats", "a", at=tmp_path).stdout.decode()
    assert (
        "5 stored: 3 whole, 1 patched in 22 B, 1 zero; of 3 different pages, 1.7 times each" in text
    )
    assert "1 whole pages repeat another" in text
    done = run_inside("stats", "--no-pages", "--json", "a", at=tmp_path)
    assert json.loads(done.stdout)["pages"] is None
    assert set(PageKind) == {0, 1, 2, 3}


def test_a_timeline_shows_the_times_of_events(tmp_path: Path) -> None:
    start = 1_000_000
    moments = [start, start, *[start + 59_000_000 + n for n in range(100)], start + 60_000_000]
    with journal.Writer(tmp_path / "a", clock=iter(moments).__next__) as writer:
        for _ in moments[1:]:
            writer.append(ClockRead(clock=1, time=1))
    line = next(
        row
        for row in run_tool("stats", "a", at=tmp_path).stdout.decode().splitlines()
        if row.startswith("over time")
    )
    bars = line[len("over time  ") :][: statistics.BINS]
    assert bars[0] in "▁_"
    assert bars[1:58].strip() == ""
    assert bars[58] in "█#" or bars[59] in "█#"
    ascii_only = run_tool("stats", "a", at=tmp_path, env={"PYTHONIOENCODING": "ascii"})
    assert ascii_only.stdout.isascii()
    assert b"#" in ascii_only.stdout


def test_a_picture_is_svg_without_text_of_the_journal_in_its_tags(tmp_path: Path) -> None:
    name = "a<b>&\x1b.journal"
    write_blocks(tmp_path / name, [ClockRead(clock=1, time=n) for n in range(50)])
    with journal.Writer(tmp_path / name) as writer:
        for tag in set(range(1, 250)) - BY_TAG.keys():
            writer.append_frame(tag, b"x")
    done = run_inside("stats", "--svg", "b.svg", "--quiet", name, at=tmp_path)
    assert (done.returncode, done.stdout) == (0, b"")
    root = ET.fromstring((tmp_path / "b.svg").read_text())
    texts = [each.text or "" for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[0] == "a<b>&?.journal"
    assert "ClockRead" in texts
    assert any("others" in text for text in texts)
    assert len(list(root.iter("{http://www.w3.org/2000/svg}polygon"))) == 2


def test_damage_is_skipped_and_reported(tmp_path: Path) -> None:
    blocks: list[list[Event]] = [[ClockRead(clock=1, time=n) for n in range(50)] for _ in range(3)]
    write_blocks(tmp_path / "a", *blocks)
    with journal.Reader(tmp_path / "a") as reader:
        offset = [block.offset for block in reader.blocks()][1]
    data = bytearray((tmp_path / "a").read_bytes())
    data[offset + 120] ^= 1
    (tmp_path / "a").write_bytes(data)
    done = run_inside("stats", "--json", "a", at=tmp_path)
    assert done.returncode == 3
    report = json.loads(done.stdout)
    assert (report["events"], report["damaged"]) == (100, 1)


def test_statistics_of_an_empty_journal_are_zero(tmp_path: Path) -> None:
    journal.Writer(tmp_path / "a").close()
    assert read_stats(tmp_path / "a")["events"] == 0
    done = run_tool("stats", "a", at=tmp_path)
    assert done.returncode == 0
    assert run_inside("stats", "b", at=tmp_path).returncode == 1
    (tmp_path / "c").write_bytes(b"GIF89a" + bytes(300))
    assert run_inside("stats", "c", at=tmp_path).returncode == 1


def test_a_directory_is_one_journal(tmp_path: Path) -> None:
    with journal.Writer(tmp_path / "a", roll=journal.log.RollPolicy(size_bytes=2000)) as writer:
        for _ in range(50):
            writer.append(StreamWrite(stream=1, offset=0, data=bytes(100)))
            writer.sync()
    report = read_stats(tmp_path / "a")
    payload = codec.encode(StreamWrite(stream=1, offset=0, data=bytes(100)))
    assert report["kinds"][0]["size"] == 50 * len(payload)
    assert report["segments"] > 1


def test_a_closed_pipe_ends_stats_quietly(tmp_path: Path) -> None:
    write_blocks(tmp_path / "a", [ClockRead(clock=1, time=1)])
    done = subprocess.run(
        ["bash", "-c", f"{sys_executable()} -m journaltool stats a | true"],
        cwd=tmp_path, capture_output=True, check=False,
    )  # fmt: skip
    assert done.stderr == b""


def sys_executable() -> str:
    import sys

    return sys.executable
