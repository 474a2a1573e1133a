"""Guests that try to leave their directory, and directories with special files."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

import journal
from journal import HostMount
from journal.engine.wasi.filesystem.mounts import FileCopy, make_copy_events
from journal.events.paths import FileType
from tests.support import wat
from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.guest_runs import wait_for_end
from tests.support.killed_runs import JOURNALTOOL
from tests.support.programs import guest

SECRET = b"SECRET: nobody may read this"
MARK = int.from_bytes(SECRET[:4], "little")
NOTSUP = 58
TRIES = 3000

SWAP = """
import os
while True:
    os.rename("inside", "kept")
    os.rename("link", "inside")
    os.rename("inside", "link")
    os.rename("kept", "inside")
"""


def outside_and_inside(folder: Path) -> tuple[Path, Path]:
    """A directory that must not be touched, and the directory of a guest beside it."""
    outside, work = folder / "outside", folder / "work"
    outside.mkdir()
    work.mkdir()
    (folder / "canary").write_bytes(SECRET)
    (outside / "secret").write_bytes(SECRET)
    (outside / "canary").write_bytes(SECRET)
    return outside, work


def state_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return everything below a directory, with the times of change."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in [folder, *sorted(folder.rglob("*"))]
    }


def test_no_way_leads_out_of_a_directory_of_the_host(tmp_path: Path, cache_dir: Path) -> None:
    outside, work = outside_and_inside(tmp_path)
    before = state_of(outside), (tmp_path / "canary").read_bytes()
    path = tmp_path / "j"
    with journal.record(
        guest("escape"),
        path,
        args=["escape", "/work"],
        mounts=[HostMount(str(work), "/work")],
        cache=cache_dir,
    ) as recorder:
        outcome = wait_for_end(recorder)
        said = recorder.stdout.decode()
    assert outcome.code == 0, said
    assert said.endswith("still inside\n")
    assert "SEES" not in said
    assert (state_of(outside), (tmp_path / "canary").read_bytes()) == before
    assert {entry.name for entry in tmp_path.iterdir()} == {"outside", "work", "canary", "j"}


def test_a_directory_that_is_only_for_reading_stays_as_it_is(
    tmp_path: Path, cache_dir: Path
) -> None:
    _, work = outside_and_inside(tmp_path)
    (work / "a" / "b" / "c").mkdir(parents=True)
    (work / "a" / "text").write_bytes(b"text")
    before = state_of(work)
    for name, arguments in (("escape", ["/work"]), ("worker", ["/work", "3"])):
        with journal.record(
            guest(name),
            tmp_path / f"{name}.journal",
            args=[name, *arguments],
            mounts=[HostMount(str(work), "/work", read_only=True)],
            stdin=b"",
            cache=cache_dir,
        ) as recorder:
            wait_for_end(recorder)
        assert state_of(work) == before


@contextmanager
def swap_directories(work: Path) -> Iterator[None]:
    """Run a process that continuously swaps a directory with a link to the outside."""
    process = subprocess.Popen([sys.executable, "-c", SWAP], cwd=work)
    try:
        yield
        assert process.poll() is None, "the swaps came to an end"
    finally:
        process.kill()
        process.wait()


def race_program(attempt: str, path: str) -> bytes:
    """Return a program that repeats a call and prints one byte for each result."""
    body = (
        wat.times(TRIES, f"(i32.store8 offset=4096 (local.get $i) {attempt})")
        + f"(i32.store (i32.const 8) (i32.const 4096)) (i32.store (i32.const 12)"
        f"(i32.const {TRIES})) (drop (call $fd_write (i32.const 1) (i32.const 8) (i32.const 1)"
        "(i32.const 4)))"
    )
    return wat.program(
        body,
        data=path,
        more=f"""(func $reads (result i32) (local $e i32)
            (local.set $e {wat.path_open(len(path), 0)})
            (if (local.get $e) (then (return (local.get $e))))
            (i32.store (i32.const 8) (i32.const 64)) (i32.store (i32.const 12) (i32.const 4))
            (drop (call $fd_read (i32.load (i32.const 0)) (i32.const 8) (i32.const 1)
            (i32.const 4)))
            (drop (call $fd_close (i32.load (i32.const 0))))
            (if (i32.eq (i32.load (i32.const 64)) (i32.const {MARK})) (then (return
            (i32.const 255)))) (i32.const 0))
        (func $makes (result i32) (local $e i32)
            (local.set $e {wat.path_open(len(path), wat.CREATE | wat.EXCLUSIVE)})
            (if (local.get $e) (then (return (local.get $e))))
            (drop (call $fd_close (i32.load (i32.const 0))))
            (call $path_unlink_file (i32.const 3) (i32.const 16) (i32.const {len(path)})))
        (func $directs (result i32) (local $e i32)
            (local.set $e (call $path_create_directory (i32.const 3) (i32.const 16)
            (i32.const {len(path)}))) (local.get $e))""",
    )


@pytest.mark.parametrize(
    ("attempt", "path"),
    [
        ("(call $reads)", "inside/secret"),
        ("(call $reads)", "inside/deep/../secret"),
        ("(call $makes)", "inside/fresh"),
        ("(call $directs)", "inside/folder"),
    ],
)
def test_a_race_of_links_and_directories_leads_nobody_out(
    attempt: str, path: str, tmp_path: Path, cache_dir: Path
) -> None:
    outside, work = outside_and_inside(tmp_path)
    (outside / "deep").mkdir()
    (work / "inside" / "deep").mkdir(parents=True)
    (work / "inside" / "secret").write_bytes(b"for all")
    (work / "link").symlink_to("../outside")
    before = state_of(outside)
    answers = Counter[int]()
    with swap_directories(work):
        for number in count():
            if len(answers) > 1:
                break  # The swaps and the calls have met.
            with journal.record(
                race_program(attempt, path),
                tmp_path / f"{number}.journal",
                mounts=[HostMount(str(work), "/work")],
                durability=journal.engine.Durability.NONE,
                cache=cache_dir,
            ) as recorder:
                assert wait_for_end(recorder).code == 0
                assert len(recorder.stdout) == TRIES
                answers.update(recorder.stdout)
    assert 255 not in answers, "the guest read what is outside"
    assert state_of(outside) == before


def open_program(name: str, flags: int) -> bytes:
    """Return a program that opens a path and exits with the errno."""
    return wat.program(f"(call $exit {wat.path_open(len(name), flags)})", data=name)


@pytest.mark.parametrize("flags", [0, wat.CREATE, wat.TRUNCATE])
@pytest.mark.parametrize("kind", ["fifo", "socket", "device"])
def test_what_is_no_file_is_not_opened_and_nobody_waits_for_it(
    kind: str, flags: int, tmp_path: Path, cache_dir: Path
) -> None:
    _, work = outside_and_inside(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        if kind == "fifo":
            os.mkfifo(work / "odd")
        elif kind == "socket":
            here = Path.cwd()
            try:
                os.chdir(work)  # The path of a socket must be short.
                listener.bind("odd")
            finally:
                os.chdir(here)
        else:
            try:
                os.mknod(work / "odd", 0o600 | stat.S_IFCHR, os.makedev(1, 5))
            except PermissionError:
                pytest.skip("only root may make a device")
        with journal.record(
            open_program("odd", flags),
            tmp_path / "j",
            mounts=[HostMount(str(work), "/work")],
            cache=cache_dir,
        ) as recorder:
            assert wait_for_end(recorder).code not in (None, 0)
    assert not stat.S_ISREG((work / "odd").lstat().st_mode)


def test_a_fifo_in_the_place_of_a_journal_or_a_module_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for arguments in (("resume", "fifo"), ("run", "-j", "fifo", str(guest("cat")))):
        done = subprocess.run(
            [*JOURNALTOOL, *arguments],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )
        assert done.returncode == 125, done.stderr
        assert done.stderr.startswith("journaltool: error: ")
        assert done.stderr.count("\n") == 1


def test_the_embedder_reads_what_the_guest_itself_would_read(
    tmp_path: Path, cache_dir: Path
) -> None:
    _, work = outside_and_inside(tmp_path)
    (work / "own").write_bytes(b"own")
    (work / "folder").mkdir()
    (work / "kept").symlink_to("own")
    (work / "up").symlink_to("folder/../own")
    (work / "report").symlink_to("../canary")
    (work / "away").symlink_to("../outside")
    (work / "absolute").symlink_to(tmp_path / "canary")
    os.mkfifo(work / "pipe")
    with journal.record(
        wat.program(""),
        tmp_path / "j",
        mounts=[HostMount(str(work), "/h"), journal.MemoryMount("/m")],
        cache=cache_dir,
    ) as run:
        wait_for_end(run)
        for name in ("own", "kept", "up", "folder/../own", "./own"):
            assert run.read_file(f"/h/{name}") == b"own"
        for name in ("report", "away/secret", "absolute", "../canary", "folder/../../canary"):
            with pytest.raises(PermissionError):
                run.read_file(f"/h/{name}")
        for name, error in (
            ("/h/pipe", PermissionError),
            ("/h/folder", IsADirectoryError),
            ("/h/nothing", FileNotFoundError),
            ("/m/../h/own", PermissionError),
            ("/m/nothing", FileNotFoundError),
        ):
            with pytest.raises(error):
                run.read_file(name)


def test_a_directory_that_became_a_link_is_not_read_by_the_embedder(
    tmp_path: Path, cache_dir: Path
) -> None:
    outside, work = outside_and_inside(tmp_path)
    with journal.record(
        wat.program(""), tmp_path / "j", mounts=[HostMount(str(work), "/h")], cache=cache_dir
    ) as run:
        wait_for_end(run)
        work.rmdir()
        work.symlink_to(outside)
        with pytest.raises(journal.HostMismatch, match="leads through a symbolic link now"):
            run.read_file("/h/secret")


def test_a_copied_directory_that_becomes_a_link_meanwhile_leads_nobody_out(tmp_path: Path) -> None:
    outside, work = outside_and_inside(tmp_path)
    (work / "inside").mkdir()
    (work / "inside" / "own").write_bytes(b"own")
    events = make_copy_events([FileCopy(str(work), "/copy")], 1 << 20)
    assert next(events).path == "/copy"
    (work / "inside").rename(tmp_path / "kept")
    (work / "inside").symlink_to(outside)
    assert [(event.kind, event.data) for event in events] == [
        (FileType.SYMBOLIC_LINK, str(outside).encode())
    ]
