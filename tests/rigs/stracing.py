"""Writers under strace: killed at a chosen system call, or with an injected error."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

from tests.rigs import api
from tests.rigs.promise import Promise, check
from tests.rigs.traced import CODE_REFUSED, rows
from tests.support.deadlines import DEADLINE_SECONDS

_STRACE = ("strace", "--follow-forks")


class Inject(NamedTuple):
    """Injection at the ``nth`` call of a name, or from that call on.

    It uses the syntax of strace: ``signal=KILL``, ``error=EIO``, ``retval=0``.
    """

    call: str
    nth: int
    what: str = "signal=KILL"
    forever: bool = False

    def __str__(self) -> str:
        return f"{self.call}:{self.what}:when={self.nth}{'+' if self.forever else ''}"


class Outcome(NamedTuple):
    """Exit of a writer, its promises, and the calls of its busiest thread."""

    code: int
    promise: Promise
    calls: Counter[str]


class Forking:
    """A process that forks on request. It runs a module with options set once."""

    def __init__(self, root: Path, module: str, told: object) -> None:
        self.root = root
        command = [sys.executable, "-m", module, json.dumps(told)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(DEADLINE_SECONDS)
        self._process.stdout.close()

    def follow(self, child: int, injects: Sequence[Inject]) -> tuple[int, Counter[str]]:
        """Trace a stopped child to its end; return its exit code and its calls."""
        log = self.root / "calls"
        log.unlink(missing_ok=True)
        options = [f"--inject={inject}" for inject in injects] or ["--trace=all"]
        command = [*_STRACE, "-o", str(log), *options, "-p", str(child)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
            assert tracer.stderr is not None
            line = tracer.stderr.readline()
            try:
                assert "attached" in line, line
            finally:
                os.kill(child, signal.SIGCONT)
            code = self.ask("wait", child=child)
            tracer.communicate(timeout=DEADLINE_SECONDS)
        return code, _calls(log)

    def ask(self, question: str, **arguments: object) -> int:
        """Send a request; return the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": question} | arguments) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the process that forks is gone"
        return int(answer)


class Forks(Forking):
    """A process that forks writers. ``plans`` are all plans that it will be asked for."""

    def __init__(self, root: Path, plans: Sequence[api.Plan]) -> None:
        super().__init__(root, "tests.rigs.traced", plans)
        self._count = 0

    def try_one(self, plan: api.Plan, *injects: Inject) -> Outcome:
        """Run a writer with an injection, and check that its journal keeps its promise."""
        self._count += 1
        path = self.root / f"{self._count}.journal"
        outcome = self._run(path, plan, injects)
        told = f"{plan}, {', '.join(map(str, injects))}"
        assert outcome.code in (0, CODE_REFUSED, -signal.SIGKILL), f"{told}: {self._error()}"
        try:
            check(path, outcome.promise, plan)
        except Exception as error:
            error.add_note(told)
            raise
        return outcome

    def _run(self, path: Path, plan: api.Plan, injects: Sequence[Inject]) -> Outcome:
        told = self.root / "told"
        told.unlink(missing_ok=True)
        child = self.ask("start", path=str(path), plan=plan, told=str(told))
        code, calls = self.follow(child, injects)
        return Outcome(code, _promise(told), calls)

    def _error(self) -> str:
        error = self.root / "told.error"
        return error.read_text() if error.exists() else "it said nothing"


def _promise(told: Path) -> Promise:
    promise = Promise(rows())
    for line in told.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            acknowledged, created = map(int, line.split())
            promise.acknowledged, promise.created = acknowledged, bool(created)
    return promise


def _calls(log: Path) -> Counter[str]:
    made: Counter[tuple[str, str]] = Counter()
    for line in log.read_text(errors="replace").splitlines():
        thread, call = line.split(maxsplit=1)
        if "(" in call and not call.startswith(("<", "+", "-")):
            made[thread, call.partition("(")[0]] += 1
    calls: Counter[str] = Counter()
    for (_, name), count in made.items():
        calls[name] = max(calls[name], count)
    return calls
