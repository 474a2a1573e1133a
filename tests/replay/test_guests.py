"""Replay of journals of real guests gives the state of the engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import journal
from journal import Frame
from journal.engine import FileCopy, RunResult
from journal.engine.wasi.descriptors import OpenFile
from journal.events.core import ProcessExit
from journal.events.paths import FileType
from journal.events.process import ProcessTrap
from journal.replay import DirectoryHost, ModelHost, TreeEntry, play
from journal.vfs import DirectoryNode, FileNode, LinkNode, Node
from tests.support.guest_runs import wait_for_end
from tests.support.programs import ROOT, guest
from tests.support.replay_guests import (
    LINES,
    ORDERS,
    REPLAY_GUESTS,
    Record,
    families,
    worker,
    worker_on_the_host,
)
from tests.support.rewrites import frames_of, keep_first, rewrite

CUTS = 12


@dataclass(frozen=True, slots=True)
class RecordedGuest:
    """State of the engine when a guest ended."""

    path: Path
    outcome: RunResult
    stdout: bytes
    stderr: bytes
    files: dict[str, bytes]
    trees: dict[str, dict[str, TreeEntry]]
    opened: dict[int, int | None]

    @property
    def frames(self) -> list[Frame]:
        return frames_of(self.path)


def make_entry(node: Node) -> TreeEntry:
    content = b""
    if isinstance(node, FileNode):
        content = bytes(node.data)
    elif isinstance(node, LinkNode):
        content = node.target.encode()
    times = (node.atime, node.mtime, node.ctime)
    return TreeEntry(node.filetype, node.inode, node.links, *times, content)


def tree_of(root: DirectoryNode) -> dict[str, TreeEntry]:
    found, pending = {}, [("", root)]
    while pending:
        path, at = pending.pop()
        found[path or "."] = make_entry(at)
        for name, node in at.entries.items():
            below = f"{path}/{name}" if path else name
            if isinstance(node, DirectoryNode):
                pending.append((below, node))
            else:
                found[below] = make_entry(node)
    return found


def engine_descriptors(used: dict[int, Any]) -> dict[int, int | None]:
    """Return the descriptors by number, with the fdflags of files."""
    return {fd: found.flags if isinstance(found, OpenFile) else None for fd, found in used.items()}


def record_run(record: Record, folder: Path, cache: Path) -> RecordedGuest:
    with record(folder, cache) as recorder:
        outcome = wait_for_end(recorder)
        opened = engine_descriptors(recorder._get_process_with_files().context.descriptors.used)
        outputs = recorder.stdout, recorder.stderr
        return RecordedGuest(
            folder / "j", outcome, *outputs, recorder.files, trees_of(recorder), opened
        )


def trees_of(recorder: journal.Recorder) -> dict[str, dict[str, TreeEntry]]:
    """Return the entries of the engine in each memory mount."""
    mounts = recorder._get_process_with_files().mounts
    return {name: tree_of(backend.root()) for name, backend in mounts._memory.items()}


def check_replay(recorded: RecordedGuest) -> None:
    frames = recorded.frames
    last = next(f.seq for f in frames if f.tag in (ProcessExit.tag, ProcessTrap.tag))
    host = ModelHost()
    play(frames, host, upto=last)
    assert engine_descriptors_of(host) == recorded.opened
    play(frames[last:], host)
    assert host.files == recorded.files
    assert host.trees == recorded.trees
    assert (host.stdout, host.stderr) == (recorded.stdout, recorded.stderr)
    assert host.process.exit_code == recorded.outcome.code
    ended = host.process.end_event
    if isinstance(ended, ProcessTrap):
        assert (ended.kind, ended.message) == (recorded.outcome.reason, recorded.outcome.backtrace)
    assert host.descriptors == {}


def engine_descriptors_of(host: ModelHost) -> dict[int, int | None]:
    found: dict[int, int | None] = {}
    for fd, opened in host.descriptors.items():
        target = opened.object
        kind = target[0] if isinstance(target, tuple) else getattr(target, "kind", None)
        found[fd] = opened.flags if kind is FileType.REGULAR_FILE else None
    return found


@pytest.mark.parametrize("name", REPLAY_GUESTS)
def test_a_replay_gives_the_final_state_of_the_guest(
    name: str, tmp_path: Path, cache_dir: Path
) -> None:
    check_replay(record_run(REPLAY_GUESTS[name], tmp_path, cache_dir))


def test_a_replay_of_quickjs_gives_the_same_files(
    tmp_path: Path, cache_dir: Path, quickjs: Path
) -> None:
    (tmp_path / "empty").mkdir()

    def story(folder: Path, cache: Path) -> journal.Recorder:
        return journal.record(
            quickjs,
            folder / "j",
            args=["qjs", "--std", "/story.js"],
            copies=[
                FileCopy(str(tmp_path / "empty"), "/window"),
                FileCopy(str(ROOT / "demo" / "story.js"), "/story.js"),
            ],
            stdin=ORDERS,
            cache=cache,
        )

    recorded = record_run(story, tmp_path, cache_dir)
    assert recorded.outcome.code == 0
    assert recorded.files["/window/01.txt"].startswith(b"order 0\n")
    check_replay(recorded)


def test_a_cut_journal_replays_like_its_prefix(tmp_path: Path, cache_dir: Path) -> None:
    recorded = record_run(worker, tmp_path, cache_dir)
    frames = recorded.frames
    for number in range(CUTS + 1):
        count = len(frames) * number // CUTS
        prefix, whole = ModelHost(), ModelHost()
        if count:
            cut = rewrite(recorded.path, tmp_path / f"cut{number}", keep_first(count))
            assert play(frames_of(cut), prefix) == count
        assert play(frames, whole, upto=count) == count
        assert prefix.state() == whole.state(), f"cut at {count}"


def test_a_journal_torn_at_any_byte_replays_its_whole_events(
    tmp_path: Path, cache_dir: Path
) -> None:
    data = record_run(worker_on_the_host, tmp_path, cache_dir).path.read_bytes()
    frames, torn = frames_of(tmp_path / "j"), tmp_path / "torn"
    counts = set()
    for number in range(1, CUTS + 1):
        torn.write_bytes(data[: len(data) * number // CUTS])
        prefix, whole = ModelHost(), ModelHost()
        with journal.Reader(torn) as reader:
            count = play(reader.frames(), prefix)
        play(frames, whole, upto=count)
        assert prefix.state() == whole.state()
        counts.add(count)
    assert max(counts) == len(frames)
    assert len(counts) > 1


@pytest.mark.filterwarnings("ignore::journal.engine.HostDiffers")  # The host is ahead.
@pytest.mark.parametrize("name", ["worker", "worker on the host"])
def test_a_journal_of_two_sessions_replays_like_one(
    name: str, tmp_path: Path, cache_dir: Path
) -> None:
    recorded = record_run(REPLAY_GUESTS[name], tmp_path, cache_dir)
    whole = ModelHost()
    play(recorded.frames, whole)
    for part in (2, 3, 5):
        count = len(recorded.frames) * (part - 1) // part
        cut = rewrite(recorded.path, tmp_path / f"cut{part}", keep_first(count))
        with journal.resume(cut, stdin=LINES, strict=False, cache=cache_dir) as again:
            outcome = wait_for_end(again)
            trees = trees_of(again)
            printed = again.stdout
        host = ModelHost()
        play(frames_of(cut), host)
        assert host.trees == trees
        assert host.stdout == printed
        assert host.process.exit_code == outcome.code
        assert host.process.session_count == 2
        if name == "worker":
            assert host.stdout == whole.stdout
            assert host.files == whole.files


def test_a_replay_in_steps_gives_the_same_state(tmp_path: Path, cache_dir: Path) -> None:
    frames = record_run(families, tmp_path, cache_dir).frames
    steps = ModelHost()
    for start in range(0, len(frames), 97):
        play(frames[start : start + 97], steps)
    at_once = ModelHost()
    play(frames, at_once)
    assert steps.state() == at_once.state()


def test_files_grow_event_by_event_to_their_final_size(tmp_path: Path, cache_dir: Path) -> None:
    recorded = record_run(worker, tmp_path, cache_dir)
    frames = recorded.frames
    sizes = []
    host = ModelHost()
    for frame in frames:
        play([frame], host)
        sizes.append(len(host.files.get("/work/log", b"")))
    assert sizes == sorted(sizes)
    assert sizes[-1] == len(recorded.files["/work/log"])


@pytest.mark.parametrize("name", ["worker", "families"])
def test_files_of_a_guest_are_replayed_into_a_directory(
    name: str, tmp_path: Path, cache_dir: Path
) -> None:
    recorded = record_run(REPLAY_GUESTS[name], tmp_path, cache_dir)
    target = tmp_path / "target"
    target.mkdir()
    with DirectoryHost(target) as host:
        play(recorded.frames, host)
    found = {
        "/" + str(path.relative_to(target)): path.read_bytes()
        for path in target.rglob("*")
        if path.is_file() and not path.is_symlink()
    }
    expected = {f"/{path.lstrip('/')}": data for path, data in recorded.files.items()}
    assert found == expected
    for guest_name, tree in recorded.trees.items():
        for path, entry in tree.items():
            at = target / guest_name.strip("/") / path
            if entry.mtime:
                assert at.lstat().st_mtime_ns == entry.mtime, path


def test_a_replay_has_the_identity_of_the_guest(tmp_path: Path, cache_dir: Path) -> None:
    recorded = record_run(worker, tmp_path, cache_dir)
    host = ModelHost()
    play(recorded.frames, host)
    process = host.process
    assert process.arguments == (b"worker", b"/work", b"8")
    assert process.environment == (b"NAME=value",)
    assert bytes(process.module) == guest("worker").read_bytes()
    assert process.session_count == 1
    assert host.inputs.read == {0: len(LINES)}
    assert host.inputs.random_size == 8 * 8
    assert set(host.inputs.clocks) == {0, 1}
