"""A journal may use less than its user allows: more is refused with the option that allows it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import journal
from journal.engine import (
    Approvals,
    Configuration,
    FileCopy,
    ResourcePolicy,
    approve,
    check_resume,
    read_request,
)
from journal.engine.session.resource_policy import FILES_SIZE_MAX
from journal.events.process import ProcessStart
from tests.support import wat
from tests.support.guest_runs import wait_for_end
from tests.support.programs import guest
from tests.support.remote_guest import REMOTE
from tests.support.rewrites import alter_event, events_of, replace_event, rewrite

MIB = 1 << 20


@pytest.fixture
def path(tmp_path: Path, cache_dir: Path) -> Path:
    """The journal of a guest with 64 KiB of memory and 2 directories, which was stopped."""
    mounts = [journal.MemoryMount("/"), journal.MemoryMount("/more")]
    with journal.record(REMOTE, tmp_path / "j", mounts=mounts, cache=cache_dir):
        pass
    return tmp_path / "j"


EXCEEDED = [
    ({"memory_size_max": 65535}, "65536 bytes of memory", "--max-memory 65536"),
    ({"files_size_max": FILES_SIZE_MAX - 1}, "bytes of files in memory", "--max-files 1073741824"),
    ({"module_size_max": 100}, "bytes of module", "--max-module"),
    ({"mounts_max": 1}, "2 directories, more than the limit of 1", "--max-mounts 2"),
    ({"journal_size_max": 100}, "bytes of journal", "--max-journal"),
]


@pytest.mark.parametrize(("limits", "need", "option"), EXCEEDED)
def test_a_journal_that_may_use_more_is_refused_and_nothing_is_written(
    limits: dict[str, int], need: str, option: str, path: Path, cache_dir: Path
) -> None:
    before, policy = path.read_bytes(), ResourcePolicy(**limits)
    calls: list[Callable[[], object]] = [
        lambda: journal.resume(path, policy=policy, cache=cache_dir),
        lambda: journal.verify_replay(path, policy=policy, cache=cache_dir),
    ]
    for call in calls:
        with pytest.raises(journal.ResourceRefused, match=f"may need .*{need}") as caught:
            call()
        assert option in str(caught.value)
    obstacle = check_resume(path, policy=policy).obstacle
    assert (need in obstacle) or "memory_size_max" in limits, "the module is not read by a check"
    assert path.read_bytes() == before


def test_a_journal_that_needs_exactly_the_limits_is_resumed(path: Path, cache_dir: Path) -> None:
    start = events_of(path)[0]
    assert isinstance(start, ProcessStart)
    policy = ResourcePolicy(
        memory_size_max=65536,
        files_size_max=FILES_SIZE_MAX,
        module_size_max=start.module_size,
        journal_size_max=path.stat().st_size,
        mounts_max=2,
        open_files_max=0,
    )
    journal.resume(path, policy=policy, cache=cache_dir).close()


@pytest.mark.parametrize(
    ("memories", "need"),
    [
        ('(memory (export "memory") 1) (memory 2 3)', 16 * MIB + 3 * 65536),
        ('(memory (export "memory") 1 1) (memory 1 1) (memory 1 1)', 3 * 65536),
        ('(memory (export "memory") 1)', 16 * MIB),
    ],
)
@pytest.mark.parametrize("is_text", [True, False])
def test_all_memories_of_a_guest_count_together(
    memories: str, need: int, is_text: bool, tmp_path: Path, cache_dir: Path
) -> None:
    text = f'(module {memories} (func (export "_start") (loop $again (br $again))))'
    module = text.encode() if is_text else wat.module(text)
    limits = Configuration(memory_size_max=16 * MIB)
    with journal.record(module, tmp_path / "j", configuration=limits, cache=cache_dir) as recorder:
        recorder.stop()
    enough, less = ResourcePolicy(memory_size_max=need), ResourcePolicy(memory_size_max=need - 1)
    with pytest.raises(journal.ResourceRefused, match=f"may need {need} bytes of memory"):
        journal.resume(tmp_path / "j", policy=less, cache=cache_dir)
    journal.resume(tmp_path / "j", policy=enough, cache=cache_dir).close()


def test_the_memory_of_saved_stacks_does_not_count(tmp_path: Path, cache_dir: Path) -> None:
    options = journal.engine.SnapshotOptions(
        on=frozenset({journal.snapshots.Trigger.EXPLICIT}), stacks=journal.engine.Stacks.ALWAYS
    )
    limits = Configuration(memory_size_max=64 * MIB)
    with journal.record(
        guest("prompt"), tmp_path / "j", configuration=limits, snapshots=options, cache=cache_dir
    ) as recorder:
        assert recorder.snapshot() is not None
    policy = ResourcePolicy(memory_size_max=64 * MIB)
    journal.resume(tmp_path / "j", policy=policy, cache=cache_dir).close()


def test_a_user_resumes_an_own_recording_with_more_files_than_the_default(
    tmp_path: Path, cache_dir: Path
) -> None:
    limits = Configuration(files_size_max=FILES_SIZE_MAX + 1)
    path, store = tmp_path / "j", tmp_path / "approvals"
    with journal.record(REMOTE, path, configuration=limits, cache=cache_dir):
        pass
    journal.resume(path, cache=cache_dir).close()
    assert journal.verify_replay(path, cache=cache_dir).matches
    with pytest.raises(journal.ResourceRefused, match="--max-files 1073741825"):
        journal.resume(path, approvals=store, cache=cache_dir)
    with pytest.raises(journal.ResourceRefused):
        journal.verify_replay(path, approvals=store, cache=cache_dir)
    policy = ResourcePolicy(files_size_max=FILES_SIZE_MAX + 1)
    journal.resume(path, approvals=store, policy=policy, cache=cache_dir).close()
    assert read_request(path).list_options() == ("--max-files 1073741825",)
    approve(path, approvals=store)
    journal.resume(path, approvals=store, cache=cache_dir).close()
    with pytest.raises(journal.ResourceRefused, match="more than the limit of 1048576"):
        journal.resume(path, policy=ResourcePolicy(files_size_max=MIB), cache=cache_dir)
    start = events_of(path)[0]
    assert isinstance(start, ProcessStart)
    pairs = dict(start.configuration) | {"files_size_max": str(1 << 40)}
    greedy = alter_event(start, configuration=tuple(pairs.items()))
    forged = rewrite(path, tmp_path / "f", lambda frames: replace_event(frames, 0, greedy))
    with pytest.raises(journal.ResourceRefused, match="more than the limit of 1073741824"):
        journal.resume(forged, cache=cache_dir)


def test_files_do_not_count_without_a_directory_in_memory(tmp_path: Path, cache_dir: Path) -> None:
    limits = Configuration(files_size_max=1 << 40)
    with journal.record(REMOTE, tmp_path / "j", mounts=[], configuration=limits, cache=cache_dir):
        pass
    journal.resume(tmp_path / "j", cache=cache_dir).close()
    with journal.Reader(tmp_path / "j") as reader:
        assert Approvals().find(reader.journal_id) == []


def test_the_host_files_that_the_guest_had_open_are_bounded(
    tmp_path: Path, cache_dir: Path
) -> None:
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "f").write_bytes(b"")
    opens = wat.path_open(1, 0) + wat.path_open(1, 0)
    program = wat.program(f"(drop {opens.replace(')(call', ')) (drop (call', 1)})", data="f")
    mounts = [journal.HostMount(str(tmp_path / "room"), "/")]
    with journal.record(program, tmp_path / "j", mounts=mounts, cache=cache_dir) as recorder:
        wait_for_end(recorder)
    cut = rewrite(tmp_path / "j", tmp_path / "cut", lambda frames: frames[:-1])
    for count, is_refused in ((1, True), (3, False)):
        obstacle = check_resume(cut, policy=ResourcePolicy(open_files_max=count)).obstacle
        assert ("--max-open-files" in obstacle) is is_refused, obstacle


@pytest.mark.parametrize("value", [-1, "1GiB", 1.5, True])
def test_limits_are_numbers(value: object) -> None:
    with pytest.raises(journal.OptionError, match="memory_size_max must be an integer"):
        ResourcePolicy(memory_size_max=value)  # type: ignore[arg-type]


# -- files of the host -----------------------------------------------------------------------------


def test_a_module_file_of_another_size_is_not_read(tmp_path: Path, cache_dir: Path) -> None:
    module = tmp_path / "m.wasm"
    module.write_bytes(guest("cat").read_bytes())
    with journal.record(module, tmp_path / "j", embed=False, cache=cache_dir):
        pass
    with module.open("ab") as file:
        file.truncate(1 << 29)
    for source in (None, module):
        with pytest.raises(journal.ModuleMismatch, match="it has 536870912 bytes, the recorded"):
            journal.resume(tmp_path / "j", module=source, cache=cache_dir)


def test_copies_that_do_not_fit_are_not_read(tmp_path: Path, cache_dir: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 40)
    (tmp_path / "small").write_bytes(bytes(MIB))
    limits = Configuration(files_size_max=2 * MIB)
    large = [FileCopy(str(tmp_path / "large"), "/f")]
    many = [FileCopy(str(tmp_path / "small"), f"/{number}") for number in range(9)]
    for copies, told in ((large, "does not fit into its mount"), (many, "have more than 4194304")):
        with pytest.raises(journal.OptionError, match=told):
            journal.record(
                REMOTE, tmp_path / "j", copies=copies, configuration=limits, cache=cache_dir
            )
        assert not (tmp_path / "j").exists()


def test_a_limit_too_small_for_saved_stacks_is_noted_or_refused(
    tmp_path: Path, cache_dir: Path
) -> None:
    notes: list[str] = []

    def record(stacks: journal.engine.Stacks) -> journal.Recorder:
        options = journal.engine.SnapshotOptions(
            on=frozenset({journal.snapshots.Trigger.EXPLICIT}), stacks=stacks
        )
        limits = Configuration(memory_size_max=24 * MIB)
        return journal.record(
            guest("prompt"),
            tmp_path / "j",
            configuration=limits,
            snapshots=options,
            cache=cache_dir,
            note=notes.append,
        )

    with pytest.raises(journal.ModuleRefused, match="needs a limit of 33554432 bytes"):
        record(journal.engine.Stacks.ALWAYS)
    record(journal.engine.Stacks.AUTO).close()
    assert len(notes) == 1
    assert "no stacks" in notes[0]
