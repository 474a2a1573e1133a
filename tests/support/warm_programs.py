"""Real programs that wait for input, warm, each in a journal with a snapshot of that moment."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import journal
from journal import MemoryMount
from journal.engine import SnapshotOptions, Stacks
from journal.engine.recipes import driver_protocol
from journal.engine.recipes.cpython_driver import CPYTHON_DRIVER
from journal.engine.recipes.quickjs_driver import QUICKJS_DRIVER
from journal.snapshots import Trigger
from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.programs import program
from tests.support.snapshot_runs import snapshots_in

_SEED = "00112233445566778899aabbccddeeff"


class Piece(NamedTuple):
    """One piece of input, and the bytes with which the output for it ends."""

    data: bytes
    end: bytes


class WarmProgram(NamedTuple):
    """A program that reads pieces of input. ``name`` is that in ``tools/programs.py``.

    ``warm_up`` comes before the snapshot. ``pieces`` need no random numbers. A program that reads
    clocks for itself (``has_clock``) has another memory in each run. ``random`` draws random
    numbers from the host, if the program can.
    """

    name: str
    args: tuple[str, ...]
    warm_up: tuple[Piece, ...]
    pieces: tuple[Piece, ...]
    random: tuple[Piece, ...] = ()
    has_clock: bool = False

    def __str__(self) -> str:
        return self.name

    def record(self, path: Path, cache: Path) -> int:
        """Record the journal of the warm program, and return the number of its snapshot."""
        options = SnapshotOptions(
            on=frozenset({Trigger.EXPLICIT}), stacks=Stacks.ALWAYS, stop_after=True
        )
        with journal.record(
            program(self.name),
            path,
            args=self.args,
            mounts=[MemoryMount("/"), MemoryMount("/work")],
            cache=cache,
            snapshots=options,
        ) as guest:
            for piece in self.warm_up:
                feed_piece(guest, piece)
            seq = guest.snapshot()
            assert seq is not None
            return seq


def feed_piece(guest: journal.Recorder, piece: Piece) -> bytes:
    """Feed a piece of input to a running guest, and return its output."""
    size = len(guest.stdout)
    guest.feed(piece.data)
    return wait_for_output(guest, lambda output: output[size:].endswith(piece.end))[size:]


class WarmJournal(NamedTuple):
    """A warm program in a journal, and its snapshot."""

    program: WarmProgram
    path: Path
    seq: int


class ReachedState(NamedTuple):
    """Outputs for pieces of input, and the whole state of the guest after them."""

    outputs: list[bytes]
    files: dict[str, bytes]
    digest: bytes

    def without_clock(self, program: WarmProgram) -> ReachedState:
        """Return what a run shares with another run: not the memory if that has clocks."""
        return self._replace(digest=b"") if program.has_clock else self


def run_resume(
    path: Path, into: Path | None, pieces: Sequence[Piece], cache: Path, at: int | None = None
) -> ReachedState:
    """Run pieces in a resume, which takes a snapshot at the end."""
    with journal.resume(path, at=at, into=into, cache=cache) as guest:
        guest.snapshot()  # The outputs before this moment are delivered.
        outputs = [feed_piece(guest, piece) for piece in pieces]
        assert guest.snapshot() is not None
        files = guest.files
    return ReachedState(outputs, files, snapshots_in(into or path)[-1].digest)


def wait_for_output(guest: journal.Recorder, is_complete: Callable[[bytes], bool]) -> bytes:
    """Wait until the output of a guest is complete, and return it."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not is_complete(guest.stdout):
        assert guest.wait(timeout_seconds=0.001) is None, guest.stderr
        assert time.monotonic() < deadline, guest.stdout
    return guest.stdout


def _evaluate(number: int, code: str, *, is_first: bool = False) -> Piece:
    seed = _SEED if is_first else None
    nonce = f"nonce{number:03}"
    data = driver_protocol.encode_request(nonce, seed, 1 << 16, f"<{number}>", code)
    return Piece(data, b"}\n")


def _statement(sql: str) -> Piece:
    return Piece(f"{sql}\n".encode(), b": ok\n")


def _word(word: str, end: str) -> Piece:
    return Piece(f"{word}\n".encode(), f"{end}\n".encode())


WARM_PROGRAMS = (
    WarmProgram(
        name="quickjs",
        args=("qjs", "--std", "--module", "--eval", QUICKJS_DRIVER),
        warm_up=(_evaluate(0, "const kept = new Map(); var count = 0; null.x"),),
        pieces=(
            _evaluate(1, "kept.set(count++, {a: 'é'.repeat(1000)}); kept.size", is_first=True),
            _evaluate(2, "[3, 1, 2].sort().join() + 'abc'.replace(/b/, x => x + count)"),
            _evaluate(3, "std.writeFile('f', 'x'.repeat(5000)); os.readdir('.')[0].length"),
            _evaluate(4, "function* g() { yield* [1, 2] }; const it = g(); it.next().value"),
            _evaluate(5, "function f(n) { return n ? f(n - 1) + 1 : null.x }; f(50)"),
            _evaluate(6, "let big = []; for (let i = 0; i < 50000; i++) big.push({i}); big.length"),
        ),
    ),
    WarmProgram(
        name="cpython",
        args=("python", "-I", "-c", CPYTHON_DRIVER),
        warm_up=(_evaluate(0, "import random, re, os\nkept = {}\n1 / 0"),),
        pieces=(
            _evaluate(1, "kept['a'] = 'é' * 1000; random.random()", is_first=True),
            _evaluate(2, "re.sub(r'(\\w)(\\w*)', r'\\2\\1', 'some words') + repr({1, 'a'})"),
            _evaluate(3, "file = open('f', 'w'); file.write('x' * 5000)"),
            _evaluate(4, "def g():\n    yield from kept\nsteps = g()\nnext(steps)"),
            _evaluate(5, "def f(n):\n    return f(n - 1) if n else {}['k']\nf(50)"),
            _evaluate(6, "big = [{'i': i} for i in range(50000)]; len(big)"),
        ),
        random=(_evaluate(7, "list(os.urandom(8))"),),
    ),
    WarmProgram(
        name="sqlite",
        args=("sqlite", "/work/db"),
        warm_up=(
            _statement("create table t(a integer primary key, b text)"),
            _statement("insert into t(b) values ('one'), ('two')"),
        ),
        pieces=(
            _statement("insert into t(b) select b || '!' from t"),
            _statement("begin"),
            _statement("update t set b = b || a where a > 2"),
            _statement("select group_concat(b) from t"),
            _statement("commit"),
            _statement("create virtual table v using fts5(b)"),
            _statement("insert into v select b from t"),
            _statement("select * from v where v match 'two'"),
        ),
        has_clock=True,
    ),
    WarmProgram(
        name="words",
        args=("words",),
        warm_up=(_word("one", "one 1 of 1"),),
        pieces=(
            _word("one", "one 2 of 1"),
            _word("two", "two 1 of 2"),
            *(_word(f"word{i}", f"word{i} 1 of {i + 3}") for i in range(40)),
            _word("one", "one 3 of 42"),
        ),
        random=(_word("random", "random 1 of 43"),),
        has_clock=True,
    ),
)
"""The programs, each with pieces of input for one session, in this order."""


def fork_twice(
    warm: WarmJournal, folder: Path, cache: Path
) -> tuple[ReachedState, Path, tuple[Piece, ...]]:
    """Run half of the pieces in a fork, and fork that.

    Returns the state that was reached, the last fork and the pieces that remain.
    """
    pieces = warm.program.pieces
    half = len(pieces) // 2
    child, grandchild = folder / "child.journal", folder / "grandchild.journal"
    first = run_resume(warm.path, child, pieces[:half], cache, warm.seq)
    journal.fork(child, grandchild)
    return first, grandchild, pieces[half:]
