"""Switchover of a writer to another journal: no appended event is lost, whenever it ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from journal import Frame, JournalError, JournalLocked, OptionError, Reader, StorageError, Writer
from journal.format.block import Block, build_block
from journal.format.columns import Frames
from journal.fs import atomic_file
from journal.log import CommitPolicy, RollPolicy
from tests.rigs import needs
from tests.rigs.faults import Fault
from tests.rigs.fused import Served
from tests.support.compaction_histories import frames_of
from tests.support.deadlines import DEADLINE_SECONDS, wait_until

SMALL = RollPolicy(1 << 12)


def copy_journal(
    path: Path, beside: Path, *, every: int = 1, roll: RollPolicy | None = None
) -> int:
    """Copy each ``every``-th event and the last one to a new journal; return the count."""
    with (
        Reader(path) as reader,
        Writer(beside, journal_id=reader.journal_id, commit=CommitPolicy.NONE, roll=roll) as writer,
    ):
        last = reader.summary().last_seq
        for block in reader.blocks():
            if every == 1:
                writer.append_block(block)
                continue
            for seq, tag, payload in block.rows():
                if seq % every == 0 or seq == last:
                    writer.append_block(make_block(block, seq, tag, payload))
        return last + 1


def make_block(block: Block, seq: int, tag: int, payload: bytes) -> Block:
    """Return a block of one event."""
    return build_block(Frames([tag], [payload], [block.times[0]]), [seq])


def fill_journal(path: Path, count: int, roll: RollPolicy | None = None) -> Writer:
    writer = Writer(path, roll=roll)
    for number in range(count):
        writer.append_frame(200, b"%d" % number * 20)
        if number % 10 == 0:
            writer.flush()
    writer.sync()
    return writer


def payloads(path: Path) -> dict[int, bytes]:
    return {frame.seq: frame.payload for frame in frames_of(path)}


@pytest.mark.parametrize("roll", [None, SMALL], ids=["file", "directory"])
def test_it_goes_on_with_what_was_kept_and_with_all_that_came_behind(
    tmp_path: Path, roll: RollPolicy | None
) -> None:
    path, beside = tmp_path / "j", tmp_path / ".beside"
    with fill_journal(path, 300, roll) as writer:
        path.chmod(0o740)
        upto = copy_journal(path, beside, every=7, roll=roll)
        for number in range(upto, upto + 500):
            writer.append_frame(201, b"%d" % number)
            if number % 50 == 0:
                writer.flush()
        found = writer.switch_to(beside)
        assert writer.durable_upto == writer.next_seq == 800
        assert found.copied_size > 0
        assert writer.append_frame(202, b"behind") == 800
        writer.sync()
        wanted = {seq: b"%d" % seq * 20 for seq in range(upto) if seq % 7 == 0 or seq == upto - 1}
        wanted |= {seq: b"%d" % seq for seq in range(upto, 800)} | {800: b"behind"}
        assert payloads(path) == wanted
        with pytest.raises(JournalLocked):
            Writer(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["j"]
    assert path.stat().st_mode & 0o777 == 0o740
    with Reader(path) as reader:
        assert not list(reader.verify(decode=False))
    with Writer(path) as writer:
        assert writer.next_seq == 801


def test_those_who_append_meanwhile_lose_nothing_and_order_stays(tmp_path: Path) -> None:
    path, stop = tmp_path / "j", threading.Event()
    promised: list[int] = []
    counts = [0, 0, 0]

    def work(which: int, writer: Writer) -> None:
        while not stop.is_set():
            seq = writer.append_frame(200 + which, counts[which].to_bytes(8, "little"))
            counts[which] += 1
            if counts[which] % 16 == 0:
                writer.wait(seq)
                promised.append(seq)

    with Writer(path) as writer:
        threads = [threading.Thread(target=work, args=(n, writer)) for n in range(3)]
        for thread in threads:
            thread.start()
        for nth in range(6):
            writer.sync()
            before = list(counts)
            wait_until(lambda before=before: all(map(int.__gt__, counts, before)))  # type: ignore[misc]
            copy_journal(path, tmp_path / f".{nth}")
            writer.switch_to(tmp_path / f".{nth}")
        stop.set()
        for thread in threads:
            thread.join()
    found = frames_of(path)
    assert [frame.seq for frame in found] == list(range(len(found)))
    assert max(promised) < len(found)
    for which in range(3):
        mine = [int.from_bytes(f.payload, "little") for f in found if f.tag == 200 + which]
        assert mine == list(range(len(mine)))
        assert mine


def test_a_journal_that_is_not_its_own_is_refused_and_it_goes_on(tmp_path: Path) -> None:
    path, other = tmp_path / "j", tmp_path / ".other"
    with fill_journal(path, 30) as writer:
        fill_journal(other, 30).close()
        with pytest.raises(OptionError, match="is another journal"):
            writer.switch_to(other)
        copy_journal(path, tmp_path / ".ahead")
        with Writer(tmp_path / ".ahead") as ahead:
            ahead.append_frame(200, b"too much")
        with pytest.raises(OptionError, match="ends at sequence number 31, expected 30"):
            writer.switch_to(tmp_path / ".ahead")
        with pytest.raises(OptionError, match=r"is not a journal (file|directory) like"):
            writer.switch_to(tmp_path / ".nothing")
        copy_journal(path, tmp_path / ".like", roll=SMALL)
        with pytest.raises(OptionError, match=r"is not a journal (file|directory) like"):
            writer.switch_to(tmp_path / ".like")
        writer.append_frame(200, b"behind")
    assert len(frames_of(path)) == 31
    assert not (tmp_path / ".ahead").exists()


def test_a_closed_writer_goes_on_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "j"
    fill_journal(path, 30).close()
    before = frames_of(path)
    writer = Writer(path)
    copy_journal(path, tmp_path / ".beside")
    writer.close()
    with pytest.raises(JournalError):
        writer.switch_to(tmp_path / ".beside")
    assert frames_of(path) == before


def test_a_damaged_successor_is_not_believed(tmp_path: Path) -> None:
    path, beside = tmp_path / "j", tmp_path / ".beside"
    with fill_journal(path, 300) as writer:
        copy_journal(path, beside)
        data = bytearray(beside.read_bytes())
        data[len(data) // 2] ^= 1
        beside.write_bytes(data)
        with pytest.raises(JournalError):
            writer.switch_to(beside)
        writer.append_frame(200, b"behind")
    assert len(frames_of(path)) == 301


@pytest.mark.parametrize("roll", [None, SMALL], ids=["file", "directory"])
def test_a_follower_goes_on_in_the_new_one(tmp_path: Path, roll: RollPolicy | None) -> None:
    path, beside = tmp_path / "j", tmp_path / ".beside"
    with fill_journal(path, 100, roll) as writer, Reader(path) as reader:
        frames = reader.follow(timeout_seconds=DEADLINE_SECONDS)
        first = [next(frames) for _ in range(100)]
        copy_journal(path, beside, every=9, roll=roll)
        writer.append_frame(201, b"before")
        writer.switch_to(beside)
        writer.append_frame(201, b"behind")
        writer.sync()
        rest: list[Frame] = [next(frames), next(frames)]
        assert [frame.seq for frame in first + rest] == list(range(102))
        assert [frame.payload for frame in rest] == [b"before", b"behind"]


@pytest.mark.parametrize("roll", [None, SMALL], ids=["file", "directory"])
@pytest.mark.parametrize("is_placed", [False, True], ids=["before", "after"])
def test_interrupted_as_names_change_it_takes_nothing_that_might_be_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, roll: RollPolicy | None, is_placed: bool
) -> None:
    path, beside = tmp_path / "j", tmp_path / ".beside"
    take_place = atomic_file.move_into_place

    def interrupted(one: Path, other: Path) -> None:
        if is_placed:
            take_place(one, other)
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic_file, "move_into_place", interrupted)
    with fill_journal(path, 100, roll) as writer:
        copy_journal(path, beside, every=7, roll=roll)
        writer.append_frame(201, b"before")
        with pytest.raises(KeyboardInterrupt):
            writer.switch_to(beside)
        monkeypatch.undo()
        if is_placed:
            with pytest.raises(StorageError):
                writer.append_frame(201, b"behind")
            with pytest.raises(StorageError):
                writer.sync()
        else:
            assert writer.append_frame(201, b"behind") == 101
            writer.sync()
        with suppress(StorageError):
            writer.close()
    found = payloads(path)
    assert found[100] == b"before"
    assert (101 in found) == (not is_placed)
    assert len(found) == (17 if is_placed else 102)


def test_a_directory_with_something_else_in_it_keeps_it(tmp_path: Path) -> None:
    path, beside = tmp_path / "j", tmp_path / ".beside"
    with fill_journal(path, 100, SMALL) as writer:
        copy_journal(path, beside, roll=SMALL)
        (path / "notes").write_text("mine")
        with pytest.raises(OptionError, match="contains 'notes'"):
            writer.switch_to(beside)
    assert (path / "notes").read_text() == "mine"
    assert len(frames_of(path)) == 100


# -- crashes -------------------------------------------------------------------------------------

CALLS_MAX = 400


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served("tests.rigs.faultfs", tmp_path_factory.mktemp("faultfs") / "mount") as served:
        yield served


class Trial:
    """A writer on a failing disk that switches to another journal while it appends."""

    def __init__(self, served: Served) -> None:
        served.ask("begin", faults=(), size_max=0, calls=0)
        self.path = served.mount_point / "journal"
        self.beside = served.mount_point / ".beside"
        self.promised = -1
        fill_journal(self.path, 60).close()
        # Opened by name: to the kernel, a file opened in another way is another file here.
        self.writer = Writer(self.path)
        copy_journal(self.path, self.beside, every=7)
        self._append(20)

    def run(self) -> bool:
        """Return whether the run reached its end."""
        try:
            self.writer.switch_to(self.beside)
            self._append(10)
            self.writer.close()
        except (JournalError, OSError):
            with suppress(JournalError, OSError):
                self.writer.close()
            return False
        return True

    def _append(self, count: int) -> None:
        for _ in range(count):
            seq = self.writer.append_frame(201, b"%d" % self.writer.next_seq)
            if seq % 4 == 0:
                self.writer.sync()
                self.promised = seq

    def check(self) -> None:
        """Check that all promised events exist, and all or the chosen ones of those before."""
        found = payloads(self.path)
        first = [seq for seq in found if seq < 60]
        assert first in (list(range(60)), [seq for seq in range(60) if seq % 7 == 0 or seq == 59])
        assert [seq for seq in found if seq >= 60] == list(range(60, max(found) + 1))
        assert max(found) >= self.promised
        for seq, payload in found.items():
            assert payload == (b"%d" % seq * 20 if seq < 60 else b"%d" % seq)


def cut_at_each(served: Served, step: int) -> int:
    """Cut the power at each ``every``-th call; return the number of states tried."""
    states = 0
    for calls in range(1, CALLS_MAX, step):
        trial = Trial(served)
        served.ask("arm", faults=(), calls=calls)
        has_ended = trial.run()
        served.ask("cut")
        for seed in range(4):
            served.ask("crash", seed=seed)
            trial.check()
            states += 1
        if has_ended:
            return states
    raise AssertionError(f"it has not come to its end after {CALLS_MAX} calls")


@needs.mark(needs.why_no_fuse())
def test_a_power_cut_at_some_calls_loses_nothing_that_was_promised(
    served: Served, count_states: Callable[[int], None]
) -> None:
    count_states(cut_at_each(served, 9))


@pytest.mark.deep
@needs.mark(needs.why_no_fuse())
def test_a_power_cut_at_any_call_loses_nothing_that_was_promised(
    served: Served, count_states: Callable[[int], None]
) -> None:
    count_states(cut_at_each(served, 1))


@needs.mark(needs.why_no_fuse())
def test_on_a_disk_that_fails_it_goes_on_where_it_was_or_says_that_it_cannot(
    served: Served,
) -> None:
    failures = 0
    for call in ("write", "sync", "sync_directory", "link", "open"):
        for nth in (1, 2, 3):
            trial = Trial(served)
            served.ask("arm", faults=(Fault(call, nth),), calls=0)
            failures += not trial.run()
            trial.check()
    assert failures
