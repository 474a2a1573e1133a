"""Rebuilding: files and descriptors of real guests result from their journals without a run."""

from __future__ import annotations

from pathlib import Path

import pytest

import journal
from journal import HostMount, MemoryMount, NotResumable, Reader
from journal.engine import FileCopy, RecordingLevel
from journal.engine.snapshot.rebuild import _HANDLERS, rebuild_state
from journal.events import BY_TAG, descriptors, paths
from journal.events.inputs import HostCall, HostResult
from tests.support.engine_state import Fresh, Witness, blocks_of, check_each, rows_of
from tests.support.programs import ROOT
from tests.support.replay_guests import (
    LINES,
    ORDERS,
    REPLAY_GUESTS,
    families_on_the_host,
    worker_without_inputs,
)
from tests.support.rewrites import keep_first, rewrite

SAMPLES = 6
CRASHES = 3
WITH_FILES = ["worker", "worker on the host", "families", "families on the host"]
OTHERS = ["chatty", "cat", "exit7", "trap", "faults", "escape", "sleepy"]


@pytest.fixture
def witness(monkeypatch: pytest.MonkeyPatch) -> Witness:
    """A witness that observes every guest of a test."""
    return Witness(monkeypatch)


def check(witness: Witness, path: Path) -> None:
    """Rebuild the state at every call of the guest and compare it with the observed state."""
    assert witness.seen
    check_each(Fresh.of(path), rows_of(path), witness.seen)
    for upto, wanted in witness.seen[:: max(1, len(witness.seen) // SAMPLES)]:
        fresh = Fresh.of(path)
        with Reader(path) as reader:
            rebuild_state(fresh.context, blocks_of(reader), upto)
        fresh.stand(wanted)
        assert fresh.described() == wanted


@pytest.mark.parametrize(
    "name",
    [*WITH_FILES[:3], pytest.param(WITH_FILES[3], marks=pytest.mark.deep), *OTHERS],
)
def test_a_journal_folded_to_a_call_is_what_the_guest_had_there(
    name: str, tmp_path: Path, cache_dir: Path, witness: Witness
) -> None:
    witness.run(REPLAY_GUESTS[name](tmp_path, cache_dir))
    check(witness, tmp_path / "j")


#: Effects of guests of WASIX, whose rebuilding tests/engine/wasi/test_objects_replayed.py covers.
OF_WASIX = {
    descriptors.CreateEvent,
    descriptors.CreatePipe,
    descriptors.DuplicateFileDescriptor,
    descriptors.DuplicateFileDescriptorWithFlags,
    descriptors.EpollCreate,
    descriptors.EpollCtl,
    descriptors.FileDescriptorSetFdFlags,
    descriptors.OpenFileDescriptorWithFlags,
    paths.ChangeDirectory,
}


@pytest.mark.deep
def test_the_guests_make_every_effect_there_is_of_files(
    tmp_path: Path, cache_dir: Path, witness: Witness
) -> None:
    made, refused = set(), set()
    for name in WITH_FILES:
        folder = tmp_path / name
        folder.mkdir()
        witness.run(REPLAY_GUESTS[name](folder, cache_dir))
        made |= {row[1] for row in rows_of(folder / "j")}
        for row in rows_of(folder / "j"):
            event = journal.decode(row[1], row[2])
            if isinstance(event, HostResult) and event.errno:
                refused.add(event.call)
    of_files = {cls for cls in _HANDLERS if cls.group is journal.events.definition.Group.FILES}
    assert of_files - OF_WASIX <= {BY_TAG[tag] for tag in made}
    assert {HostCall.OPEN, HostCall.RENAME, HostCall.UNLINK, HostCall.MKDIR} <= refused


@pytest.mark.deep
def test_quickjs_s_files_are_folded(
    tmp_path: Path, cache_dir: Path, quickjs: Path, witness: Witness
) -> None:
    (tmp_path / "window").mkdir()
    outcome = witness.run(
        journal.record(
            quickjs,
            tmp_path / "j",
            args=["qjs", "--std", "/story.js"],
            mounts=[MemoryMount("/"), HostMount(str(tmp_path / "window"), "/window")],
            copies=[FileCopy(str(ROOT / "demo" / "story.js"), "/story.js")],
            stdin=ORDERS,
            cache=cache_dir,
        )
    )
    assert outcome.code == 0
    check(witness, tmp_path / "j")


@pytest.mark.deep
@pytest.mark.filterwarnings("ignore::journal.engine.HostDiffers")  # The host is ahead.
@pytest.mark.parametrize("name", ["worker on the host", "families on the host"])
def test_a_replay_is_folded_as_what_it_replays(
    name: str, tmp_path: Path, cache_dir: Path, witness: Witness
) -> None:
    witness.run(REPLAY_GUESTS[name](tmp_path, cache_dir))
    whole = tmp_path / "j"
    cut = rewrite(whole, tmp_path / "cut", keep_first(len(rows_of(whole)) * 4 // 5))
    witness.run(journal.resume(cut, stdin=LINES, strict=False, cache=cache_dir))
    check(witness, cut)


@pytest.mark.deep
@pytest.mark.filterwarnings("ignore::journal.engine.HostDiffers")  # The host is ahead.
def test_a_crash_between_a_deed_and_its_answer_is_folded(
    tmp_path: Path, cache_dir: Path, witness: Witness
) -> None:
    witness.run(families_on_the_host(tmp_path, cache_dir))
    rows = rows_of(tmp_path / "j")
    answered = {
        index
        for index, row in enumerate(rows)
        if row[1] == HostResult.tag and (rows[index - 1][1] != HostResult.tag or row[2][0] == 17)
    }
    assert len(answered) > CRASHES
    for index in sorted(answered)[:: len(answered) // CRASHES]:
        for count in (index, index + 1):
            cut = rewrite(tmp_path / "j", tmp_path / f"cut{count}", keep_first(count))
            witness.run(journal.resume(cut, stdin=LINES, strict=False, cache=cache_dir), live=20)
            assert witness.seen
            check_each(Fresh.of(cut), rows_of(cut), witness.seen)


def test_a_journal_without_the_host_s_answers_is_not_folded(
    tmp_path: Path, cache_dir: Path
) -> None:
    with worker_without_inputs(tmp_path, cache_dir) as recorder:
        recorder.wait()
    fresh = Fresh.of(tmp_path / "j")
    with (
        Reader(tmp_path / "j") as reader,
        pytest.raises(NotResumable, match="host result is missing"),
    ):
        rebuild_state(fresh.context, blocks_of(reader), 1 << 60)


def test_a_journal_without_inputs_is_folded_where_all_files_are_in_memory(
    tmp_path: Path, cache_dir: Path, witness: Witness
) -> None:
    (tmp_path / "work").mkdir()
    recorder = journal.record(
        ROOT / "fixtures" / "guests" / "worker.wasm",
        tmp_path / "j",
        args=["worker", "/work", "4"],
        copies=[FileCopy(str(tmp_path / "work"), "/work")],
        stdin=LINES,
        level=RecordingLevel.STATE,
        cache=cache_dir,
    )
    witness.run(recorder)
    check(witness, tmp_path / "j")
