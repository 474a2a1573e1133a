"""Resume: after the end and from any cut of a journal, with input, files and clocks."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

import journal
from journal import HostMount, MemoryMount
from journal.engine import ExitKind, FileCopy, HostDiffers
from journal.events.inputs import ClockRead
from journal.events.process import SessionStart
from journal.events.streams import StreamWrite
from tests.support.deadlines import wait_until
from tests.support.guest_runs import record_output, wait_for_end
from tests.support.programs import guest
from tests.support.rewrites import events_of, frames_of, keep_first, rewrite

LINES = b"".join(b"line %d\n" % number for number in range(8))
CUTS = 48


def record_worker(folder: Path, cache: Path) -> tuple[Path, bytes, dict[str, bytes]]:
    """The journal of a worker, its output to a regular file, and its files."""
    path, output = folder / "whole.journal", folder / "whole.output"
    (folder / "empty").mkdir()
    with (
        output.open("wb") as stdout,
        journal.record(
            guest("worker"),
            path,
            args=["worker", "/work", "6"],
            copies=[FileCopy(str(folder / "empty"), "/work")],
            stdin=LINES,
            stdout=stdout,
            cache=cache,
        ) as recorder,
    ):
        wait_for_end(recorder)
        return path, output.read_bytes(), recorder.files


def resumable_size(path: Path) -> int:
    """Return the size of a journal at the time it receives its name."""
    with journal.Reader(path) as reader:
        blocks = list(reader.blocks())
    first = next(i for i, block in enumerate(blocks) if SessionStart.tag in block.tags)
    return blocks[first + 1].offset


# -- after the end ------------------------------------------------------------------------------


def test_a_program_that_has_exited_exits_again_in_the_same_way(
    tmp_path: Path, cache_dir: Path
) -> None:
    record_output("exit7", tmp_path / "j", cache_dir, "42")
    for _ in range(2):
        with journal.resume(tmp_path / "j", cache=cache_dir) as again:
            assert again.ended_before
            assert wait_for_end(again) == journal.engine.RunResult(ExitKind.EXITED, 42)
            assert again.stdout == b"leaving\n"


def test_a_program_that_has_trapped_traps_again_with_its_backtrace(
    tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "j"
    with journal.record(guest("trap"), path, args=["trap", "divide"], cache=cache_dir) as first:
        outcome = wait_for_end(first)
    with journal.resume(path, cache=cache_dir) as again:
        assert again.ended_before
        assert wait_for_end(again) == outcome
    assert outcome.kind is ExitKind.TRAPPED
    assert outcome.reason == "integer division by zero"
    assert outcome.backtrace


def test_a_new_file_gets_all_that_a_program_that_has_ended_printed(
    tmp_path: Path, cache_dir: Path
) -> None:
    printed = record_output("chatty", tmp_path / "j", cache_dir, "100")
    for _ in range(2):
        target = tmp_path / "output"
        target.unlink(missing_ok=True)
        with target.open("wb") as file:
            for _ in range(3):  # A target never receives the same bytes twice.
                os.lseek(file.fileno(), 0, os.SEEK_SET)
                with journal.resume(tmp_path / "j", stdout=file, cache=cache_dir) as again:
                    wait_for_end(again)
                assert target.read_bytes() == printed


def test_a_file_that_has_a_part_of_the_output_gets_the_rest(
    tmp_path: Path, cache_dir: Path
) -> None:
    printed = record_output("chatty", tmp_path / "j", cache_dir, "60")
    for size in (0, 1, 7, len(printed) - 1, len(printed)):
        target = tmp_path / f"output{size}"
        target.write_bytes(printed[:size])
        with (
            target.open("r+b") as file,
            journal.resume(tmp_path / "j", stdout=file, cache=cache_dir) as again,
        ):
            wait_for_end(again)
        size = (tmp_path / "j").stat().st_size
        assert target.read_bytes() == printed
        with target.open("r+b") as file:
            journal.resume(tmp_path / "j", stdout=file, stderr=file, cache=cache_dir).close()
        assert (tmp_path / "j").stat().st_size == size, "where nothing is owed nothing is kept"


# -- a torn journal -----------------------------------------------------------------------------


@pytest.mark.deep
def test_every_cut_behind_the_beginning_resumes_to_the_same_end(
    tmp_path: Path, cache_dir: Path
) -> None:
    path, output, files = record_worker(tmp_path, cache_dir)
    data, begin = path.read_bytes(), resumable_size(path)
    span = len(data) - begin
    for number, size in enumerate({begin + span * step // CUTS for step in range(CUTS + 1)}):
        cut, target = tmp_path / f"{size}.journal", tmp_path / f"{size}.output"
        cut.write_bytes(data[:size])
        known = b"".join(e.data for e in events_of(cut) if isinstance(e, StreamWrite))
        target.write_bytes(known if number % 2 else b"")
        with (
            target.open("r+b") as stdout,
            journal.resume(cut, stdin=LINES, stdout=stdout, cache=cache_dir) as again,
        ):
            assert wait_for_end(again).code == 0, f"cut at {size}: {target.read_bytes()!r}"
            assert again.files == files, f"cut at {size}"
        assert target.read_bytes() == output, f"cut at {size}"


def test_a_cut_in_the_beginning_is_refused_in_a_sentence(tmp_path: Path, cache_dir: Path) -> None:
    path, *_ = record_worker(tmp_path, cache_dir)
    data, begin = path.read_bytes(), resumable_size(path)
    last = len(data[:begin].rstrip(b"\0")) - 1  # Without the padding of the last block.
    for size in {begin * step // 30 for step in range(30)} | {last}:
        cut = tmp_path / f"{size}.journal"
        cut.write_bytes(data[:size])
        with pytest.raises(journal.JournalError) as caught:
            journal.resume(cut, cache=cache_dir)
        assert len(str(caught.value).splitlines()) == 1, f"cut at {size}"


def test_a_resumed_journal_can_be_cut_and_resumed_again(tmp_path: Path, cache_dir: Path) -> None:
    path, output, files = record_worker(tmp_path, cache_dir)
    data, size = path.read_bytes(), resumable_size(path)
    for generation in range(8):
        cut = tmp_path / f"{generation}.journal"
        cut.write_bytes(data[:size])
        with journal.resume(cut, stdin=LINES, cache=cache_dir) as again:
            assert wait_for_end(again).code == 0
            assert again.stdout == output
            assert again.files == files
        data = cut.read_bytes()
        size += (len(data) - size) // 4


def test_what_is_captured_is_complete_again(tmp_path: Path, cache_dir: Path) -> None:
    path, output, _ = record_worker(tmp_path, cache_dir)
    cut = tmp_path / "cut.journal"
    size = (resumable_size(path) + path.stat().st_size) // 2
    cut.write_bytes(path.read_bytes()[:size])
    with journal.resume(cut, stdin=LINES, cache=cache_dir) as again:
        wait_for_end(again)
        assert again.stdout == output


# -- input --------------------------------------------------------------------------------------


def test_a_file_goes_on_at_the_byte_where_the_guest_had_read(
    tmp_path: Path, cache_dir: Path
) -> None:
    source, whole = tmp_path / "input", tmp_path / "whole"
    source.write_bytes(b"a shell read this\n" + bytes(range(256)))
    with source.open("rb", buffering=0) as stdin:
        stdin.seek(18)
        with journal.record(
            guest("cat"), whole, args=["cat", "10"], stdin=stdin, cache=cache_dir
        ) as first:
            wait_for_end(first)
            assert first.stdout == bytes(range(256))
    frames = frames_of(whole)
    for count in range(12, len(frames) - 1, 7):
        cut = rewrite(whole, tmp_path / f"{count}", keep_first(count))
        with (
            source.open("rb") as again_open,  # Opened again at its beginning.
            journal.resume(cut, stdin=again_open, cache=cache_dir) as again,
        ):
            wait_for_end(again)
            assert again.stdout == bytes(range(256)), f"{count} events"


def test_what_is_fed_goes_on_behind_what_was_fed(tmp_path: Path, cache_dir: Path) -> None:
    with journal.record(guest("cat"), tmp_path / "j", args=["cat", "3"], cache=cache_dir) as guest_:
        guest_.feed(b"one\n")
        guest_.feed(b"two\n")
        wait_until(lambda: guest_.stdout == b"one\ntwo\n")
    with journal.resume(tmp_path / "j", cache=cache_dir) as again:
        again.feed(b"three\n")
        again.close_stdin()
        assert wait_for_end(again).code == 0
        assert again.stdout == b"one\ntwo\nthree\n"
        assert again.stderr == b"14 bytes\n"


def test_the_example_of_the_documentation_works(tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "guest.journal"
    with journal.record(guest("cat"), path, args=["guest"], cache=cache_dir) as running:
        running.feed(b"hello\n")
        running.close_stdin()
        outcome = running.wait()
    with journal.resume(path, cache=cache_dir) as again:
        assert again.wait() == outcome
        assert again.stdout == b"hello\n"


def test_only_what_was_not_given_can_be_fed(tmp_path: Path, cache_dir: Path) -> None:
    with journal.record(guest("cat"), tmp_path / "j", stdin=b"x", cache=cache_dir) as running:
        with pytest.raises(journal.OptionError, match="cannot be fed"):
            running.feed(b"y")
        wait_for_end(running)


# -- host directories and clocks ----------------------------------------------------------------


def test_a_replay_neither_reads_nor_writes_the_hosts_directory(
    tmp_path: Path, cache_dir: Path
) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    with journal.record(
        guest("worker"),
        tmp_path / "j",
        args=["worker", "/work", "8"],
        stdin=LINES,
        mounts=[HostMount(str(folder), "/work")],
        cache=cache_dir,
    ) as first:
        assert wait_for_end(first).code == 0
        printed = first.stdout
    cut = rewrite(tmp_path / "j", tmp_path / "cut", keep_first(-1))
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    with journal.resume(cut, stdin=LINES, cache=cache_dir) as again:
        assert wait_for_end(again).code == 0
        assert again.stdout == printed
    assert list(folder.iterdir()) == []


def test_a_file_replaced_by_another_meanwhile_is_not_written_to(
    tmp_path: Path, cache_dir: Path
) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    with journal.record(
        guest("worker"),
        tmp_path / "j",
        args=["worker", "/work", "8"],
        stdin=LINES,
        mounts=[HostMount(str(folder), "/work")],
        cache=cache_dir,
    ) as first:
        assert wait_for_end(first).code == 0
    half = len(frames_of(tmp_path / "j")) // 2
    cut = rewrite(tmp_path / "j", tmp_path / "cut", keep_first(half))
    (folder / "log").rename(tmp_path / "kept")
    (folder / "log").write_bytes(b"somebody else's")
    told = "/work/log, which the guest had open, was replaced by another file"
    with pytest.raises(journal.HostMismatch, match=told):
        journal.resume(cut, stdin=LINES, cache=cache_dir)
    with pytest.warns(HostDiffers):
        again = journal.resume(cut, stdin=LINES, cache=cache_dir, strict=False)
    with again:
        wait_for_end(again)
    assert (folder / "log").read_bytes() == b"somebody else's"


def test_the_monotonic_clock_never_goes_back(tmp_path: Path, cache_dir: Path) -> None:
    record_output("sleepy", tmp_path / "0", cache_dir, "6", "3000")
    for generation in range(5):
        count = len(frames_of(tmp_path / f"{generation}")) * 2 // 3
        path = tmp_path / f"{generation}"
        cut = rewrite(path, tmp_path / f"{generation + 1}", keep_first(count))
        with journal.resume(cut, cache=cache_dir) as again:
            assert wait_for_end(again).code == 0, again.stdout
            assert again.stdout.endswith(b"back=0 early=0 errors=0\n")
        told = [
            event.time if isinstance(event, ClockRead) else event.monotonic
            for event in events_of(cut)
            if isinstance(event, SessionStart) or (isinstance(event, ClockRead) and event.clock)
        ]
        assert told == sorted(told)


def test_memory_mounts_of_any_name_are_rebuilt(tmp_path: Path, cache_dir: Path) -> None:
    with journal.record(
        guest("worker"),
        tmp_path / "j",
        args=["worker", "/deep/work", "3"],
        stdin=LINES,
        mounts=[MemoryMount("/deep/work")],
        cache=cache_dir,
    ) as first:
        assert wait_for_end(first).code == 0
        files = first.files
    assert "/deep/work/log" in files
    with journal.resume(tmp_path / "j", cache=cache_dir) as again:
        assert again.files == files
        assert again.read_file("/deep/work/log") == files["/deep/work/log"]
        with pytest.raises(FileNotFoundError):
            again.read_file("/deep/work/nothing")


def test_runs_that_are_over_keep_no_descriptors(tmp_path: Path, cache_dir: Path) -> None:
    def run(number: int) -> int:
        path = tmp_path / f"{number}"
        with journal.record(guest("exit7"), path, cache=cache_dir) as recorder:
            wait_for_end(recorder)
        with journal.resume(path, cache=cache_dir) as recorder:
            assert recorder.files == {}
        del recorder
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir()))

    assert run(0) == run(1) == run(2)
