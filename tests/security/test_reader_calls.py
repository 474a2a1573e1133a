"""Guests that request too much are refused, and the host keeps its resources."""

from __future__ import annotations

from pathlib import Path

import pytest

import journal
from journal.engine import Configuration
from tests.support import wat
from tests.support.guest_runs import run, run_limited_tool, wait_for_end
from tests.support.programs import guest

MIB = 1 << 20
NOSPC = 51


@pytest.mark.parametrize("limit", [32 * MIB, 1 << 32])
def test_memory_is_given_up_to_the_limit(limit: int, tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "j"
    with journal.record(
        guest("bigmem"),
        path,
        args=["bigmem"],
        configuration=Configuration(memory_size_max=limit),
        cache=cache_dir,
    ) as recorder:
        assert wait_for_end(recorder).code == 0
        got = int(recorder.stdout.split()[1])
        assert b"then was refused" in recorder.stdout
    assert got == limit // MIB - 17, "what the program has from the start is 17 MiB, less a page"


WRITES = wat.program(
    wat.path_open(1, wat.CREATE)
    + "(call $check) (i32.store (i32.const 8) (i32.const 0))"
    + "(i32.store (i32.const 12) (i32.const 0x10000))"
    + wat.times(
        1000,
        """(call $check (call $fd_write (i32.load (i32.const 0)) (i32.const 8) (i32.const 1)
           (i32.const 4)))""",
    ),
    data="f",
)


def test_a_file_in_memory_grows_up_to_the_limit(tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "j"
    limit = Configuration(files_size_max=MIB)
    with journal.record(WRITES, path, configuration=limit, cache=cache_dir) as recorder:
        assert wait_for_end(recorder).code == NOSPC
        assert MIB - 0x10000 <= len(recorder.files["/f"]) <= MIB
    with journal.resume(path, cache=cache_dir) as again:
        assert wait_for_end(again).code == NOSPC


@pytest.mark.parametrize("size", [MIB, 1 << 40, 1 << 62, (1 << 63) - 1])
def test_a_file_in_memory_is_not_made_larger_than_the_limit(
    size: int, tmp_path: Path, cache_dir: Path
) -> None:
    grows = wat.program(
        wat.path_open(1, wat.CREATE)
        + f"""(call $check) (call $exit (call $fd_filestat_set_size (i32.load (i32.const 0))
              (i64.const {size})))""",
        data="f",
    )
    far = wat.program(
        wat.path_open(1, wat.CREATE)
        + f"""(call $check) (i32.store (i32.const 12) (i32.const 1)) (call $exit (call $fd_pwrite
              (i32.load (i32.const 0)) (i32.const 8) (i32.const 1) (i64.const {size - 1})
              (i32.const 4)))""",
        data="f",
    )
    limit = Configuration(files_size_max=MIB - 1)
    assert run(grows, tmp_path / "grows", cache_dir, limit).code == NOSPC
    assert run(far, tmp_path / "far", cache_dir, limit).code == NOSPC


def test_a_file_that_has_no_name_any_more_still_counts(tmp_path: Path, cache_dir: Path) -> None:
    keeps = wat.program(
        "(i32.store (i32.const 12) (i32.const 0x80000))"
        + wat.times(
            20,
            f"""(call $check {wat.path_open(1, wat.CREATE | wat.TRUNCATE)})
            (call $check (call $fd_write (i32.load (i32.const 0)) (i32.const 8) (i32.const 1)
            (i32.const 4)))
            (call $check (call $path_unlink_file (i32.const 3) (i32.const 16) (i32.const 1)))""",
        ),
        data="f",
        pages=16,
    )
    assert run(keeps, tmp_path / "j", cache_dir, Configuration(files_size_max=MIB)).code == NOSPC


def test_names_without_contents_cannot_fill_the_host(tmp_path: Path, cache_dir: Path) -> None:
    names = wat.program(
        wat.times(
            20_000,
            """(i32.store (i32.const 16) (i32.or (i32.const 0x40404040) (i32.or (i32.or
            (i32.and (local.get $i) (i32.const 15))
            (i32.shl (i32.and (local.get $i) (i32.const 0xf0)) (i32.const 4))) (i32.or
            (i32.shl (i32.and (local.get $i) (i32.const 0xf00)) (i32.const 8))
            (i32.shl (i32.and (local.get $i) (i32.const 0xf000)) (i32.const 12))))))
            (call $check (call $path_create_directory (i32.const 3) (i32.const 16)
            (i32.const 200)))""",
        ),
        data="x" * 200,
    )
    assert run(names, tmp_path / "j", cache_dir, Configuration(files_size_max=MIB)).code == NOSPC


def test_directories_in_directories_can_be_looked_at(tmp_path: Path, cache_dir: Path) -> None:
    inside = wat.path_open(
        1, wat.IS_DIRECTORY, fd="(i32.load (i32.const 0))", rights=wat.DIRECTORY_RIGHTS
    )
    deep = wat.program(
        "(i32.store (i32.const 0) (i32.const 3))"
        + wat.times(
            3000,
            f"""(call $check (call $path_create_directory (i32.load (i32.const 0)) (i32.const 16)
            (i32.const 1))) (local.set $e (i32.load (i32.const 0))) (call $check {inside})
            (if (local.get $i) (then (call $check (call $fd_close (local.get $e)))))""",
        ),
        data="d",
    )
    with journal.record(deep, tmp_path / "j", cache=cache_dir) as recorder:
        assert wait_for_end(recorder).code == 0
        assert recorder.files == {}


def _buffers(size: int) -> str:
    return wat.times(
        1024,
        f"""(i32.store (i32.mul (local.get $i) (i32.const 8)) (i32.const 0))
        (i32.store offset=4 (i32.mul (local.get $i) (i32.const 8)) (i32.const {size}))""",
    )


GREEDY = {
    "buffers that are all of memory, written": (
        _buffers(16 * MIB)
        + "(call $exit (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1024)"
        "(i32.const 8192)))"
    ),
    "buffers that are all of memory, read": (
        _buffers(16 * MIB)
        + "(call $exit (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1024)"
        "(i32.const 8192)))"
    ),
    "more buffers than there can be": (
        "(call $exit (i32.eqz (call $fd_write (i32.const 1) (i32.const 0) (i32.const -1)"
        "(i32.const 8192))))"
    ),
    "more to wait for than there can be": (
        "(call $exit (i32.eqz (call $poll_oneoff (i32.const 0) (i32.const 0) (i32.const -1)"
        "(i32.const 8192))))"
    ),
    "a name as long as memory": (
        "(call $exit (i32.eqz (call $path_create_directory (i32.const 3) (i32.const 0)"
        f"(i32.const {16 * MIB}))))"
    ),
}


@pytest.mark.parametrize("what", GREEDY)
def test_a_small_guest_cannot_make_the_host_take_much(what: str, tmp_path: Path) -> None:
    (tmp_path / "greedy.wasm").write_bytes(wat.program(GREEDY[what], pages=256))
    done = run_limited_tool("run", "-q", "greedy.wasm", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_tables_have_a_limit(tmp_path: Path) -> None:
    grows = "(call $exit (i32.ne (i32.const -1) (table.grow $t (ref.null func) (i32.const -2))))"
    large = (
        "(call $exit (i32.ne (i32.const -1) (table.grow $t (ref.null func) (i32.const 300000000))))"
    )
    for number, body in enumerate((grows, large)):
        path = tmp_path / f"{number}.wasm"
        path.write_bytes(wat.program(body, more="(table $t 1 funcref)"))
        done = run_limited_tool("run", "-q", path, folder=tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), "growing is refused, as memory's is"
