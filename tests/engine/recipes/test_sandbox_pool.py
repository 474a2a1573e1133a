"""Evaluation of code in the clones of a pool, for threads and for asyncio."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import journal
from journal.engine.recipes.sandbox import PythonSandbox, QuickJSSandbox, Sandbox
from journal.engine.recipes.sandbox_pool import SandboxPool
from journal.engine.session.reply import Ending
from journal.engine.session.session_limits import SessionLimits
from tests.support.resumed_sandboxes import ResumedSandbox
from tests.support.sandbox_codes import JAVASCRIPT, PYTHON, CodeCase, check_case
from tests.support.tiny_interpreter import TINY_INTERPRETER


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Sandbox:
    """Return a sandbox with the tiny interpreter, which counts the requests of a session."""
    path = tmp_path_factory.mktemp("tiny") / "warm.journal"
    return QuickJSSandbox.prepare(TINY_INTERPRETER, path, cache=cache_dir)


@pytest.fixture(scope="module")
def box(tiny: Sandbox) -> Iterator[SandboxPool]:
    """Return a pool in this process."""
    with tiny.open(workers=0) as box:
        yield box


@pytest.fixture
def first(box: SandboxPool) -> int:
    """Return the value of the first request of a session."""
    value = box.evaluate("a").value
    assert isinstance(value, int)
    return value


def test_each_evaluation_is_in_a_clone_of_its_own(box: SandboxPool, first: int) -> None:
    assert [box.evaluate("a").value for _ in range(3)] == [first] * 3


def test_a_session_goes_on_where_its_last_evaluation_ended(box: SandboxPool, first: int) -> None:
    with box.checkout() as session:
        assert [session.evaluate("a").value for _ in range(3)] == [first, first + 1, first + 2]
    assert box.evaluate("a").value == first


@pytest.mark.parametrize(
    ("code", "ending", "error"),
    [
        ("e", Ending.EXITED, "the code ended its process with exit code 3"),
        ("t", Ending.TRAPPED, "the code trapped: unreachable"),
        ("s", Ending.STOPPED, "the code read the standard input of the sandbox, .*"),
        ("l", Ending.TIMED_OUT, "the code ran out of time: .* 0.05 seconds"),
    ],
)
def test_a_session_that_has_ended_evaluates_no_more(
    box: SandboxPool, first: int, code: str, ending: Ending, error: str
) -> None:
    with box.checkout(limits=SessionLimits(seconds_max=0.05)) as session:
        assert session.evaluate("a").value == first
        result = session.evaluate(code)
        assert (result.ending, result.is_alive, result.value) == (ending, False, None)
        assert re.fullmatch(error, result.error), result.error
        with pytest.raises(journal.EngineError, match="cannot evaluate more code"):
            session.evaluate("a")
    assert box.evaluate("a").value == first


def test_an_evaluation_has_a_time_limit_of_its_own(box: SandboxPool, first: int) -> None:
    assert box.evaluate("l", seconds_max=0.05).ending is Ending.TIMED_OUT
    assert box.evaluate("a", seconds_max=60).value == first


def test_the_journal_of_a_session_can_be_replayed(
    box: SandboxPool, first: int, tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "session.journal"
    assert box.evaluate("a", journal=path).value == first
    assert journal.verify_replay(path, cache=cache_dir).matches
    with ResumedSandbox(path, tmp_path / "fork.journal", cache_dir) as session:
        assert session.evaluate("a").value == first


def test_asyncio_has_the_same(tiny: Sandbox, box: SandboxPool, first: int) -> None:
    async def evaluate() -> None:
        async with tiny.open(workers=0, slots=2) as box:
            results = await asyncio.gather(*(box.evaluate_async("a") for _ in range(4)))
            assert [result.value for result in results] == [first] * 4
            assert (await box.evaluate_async("l", seconds_max=0.05)).ending is Ending.TIMED_OUT
            async with box.checkout_async() as session:
                assert (await session.evaluate("a")).value == first
                assert (await session.evaluate("a")).value == first + 1
                assert (await session.evaluate("e")).ending is Ending.EXITED
                with pytest.raises(journal.EngineError, match="cannot evaluate more code"):
                    await session.evaluate("a")

    asyncio.run(evaluate())


def check_session(box: SandboxPool, cases: tuple[CodeCase, ...], exit_code: str) -> None:
    """Evaluate code in two sessions: the second sees nothing of the first."""
    for _ in range(2):
        with box.checkout() as session:
            for case in cases:
                check_case(case, session.evaluate(case.code))
            assert session.evaluate(exit_code).ending is Ending.EXITED


@pytest.mark.deep
def test_javascript_gives_value_output_and_files(
    tmp_path: Path, cache_dir: Path, quickjs: Path
) -> None:
    path = tmp_path / "warm.journal"
    setup = "std.writeFile('/work/before', 'setup')"
    sandbox = QuickJSSandbox.prepare(quickjs, path, setup=setup, cache=cache_dir)
    with sandbox.open() as box:
        check_session(box, JAVASCRIPT, "std.exit(3)")
        deep = box.evaluate("(function f() { f() })()")
        assert deep.ending is Ending.TRAPPED
        loop = box.evaluate("while (true);", seconds_max=0.1)
        assert loop.ending is Ending.TIMED_OUT
        numbers = {box.evaluate("Math.random()").value for _ in range(5)}
        assert len(numbers) == 5
    with sandbox.open(files=False, value_size_max=1024) as box:
        assert box.evaluate("std.writeFile('a', 'b'); 1").files == {}
        assert "at most 1024 are returned" in box.evaluate("'x'.repeat(1025)").error


@pytest.mark.deep
def test_python_gives_value_output_and_files(
    tmp_path: Path, cache_dir: Path, cpython: Path
) -> None:
    path = tmp_path / "warm.journal"
    setup = "import random\nopen('/work/before', 'w').write('setup')"
    sandbox = PythonSandbox.prepare(cpython, path, imports=["math"], setup=setup, cache=cache_dir)
    with sandbox.open() as box:
        check_session(box, PYTHON, "os._exit(3)")
        assert box.evaluate("while True: pass", seconds_max=0.2).ending is Ending.TIMED_OUT
        grown = box.evaluate("x = bytearray(1 << 30)")
        assert "MemoryError" in grown.error or grown.ending is Ending.OUT_OF_MEMORY
        written = box.evaluate("open('large', 'wb').write(bytes(80 << 20))")
        assert written.error
        printed = box.evaluate("while True: print('x' * 1000)")
        assert printed.ending is Ending.OUTPUT_LIMIT
        for code in ("random.random()", "__import__('os').urandom(4).hex()"):
            assert len({box.evaluate(code).value for _ in range(5)}) == 5
