"""A forking server with writers: random processes append, sync, close, fork and die.

The oracle is the list of acknowledged events. Whatever the processes do, each journal has all
acknowledged events, then at most the first of the accepted ones, and nothing else; a call on an
inherited writer is refused; and a journal is locked exactly while its writer is open.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journal.log import Reader, Writer
from tests.rigs.forking import POLICIES, ForkingServer, ServedProcess, make_payload

JOURNALS = ("one", "two", "segments")
PROCESSES_MAX = 6
CALLS = ("append", "burst", "sync", "wait", "close", "drop", "open")
STEPS = ("fork", "kill", "exit", *CALLS, *CALLS)

Step = tuple[str, int, str, str, int]
steps = st.lists(
    st.tuples(
        st.sampled_from(STEPS),
        st.integers(0, PROCESSES_MAX - 1),
        st.sampled_from(JOURNALS),
        st.sampled_from(sorted(POLICIES)),
        st.integers(1, 40),
    ),
    min_size=5,
    max_size=60,
)


@dataclass
class Log:
    """Expected state of a journal: accepted payloads, and how many of them are acknowledged."""

    path: Path
    accepted: list[bytes] = field(default_factory=list)
    acknowledged: int = 0
    life: int = 0

    def acknowledge(self) -> None:
        """Record that all accepted events are durable."""
        self.acknowledged = len(self.accepted)

    def check(self) -> None:
        """Compare the journal with the oracle."""
        if not self.path.exists():
            assert not self.accepted
            return
        with Reader(self.path) as reader:
            found = [frame.payload for frame in reader.frames()]
        assert len(found) >= self.acknowledged, "acknowledged events are lost"
        assert found == self.accepted[: len(found)]


@dataclass
class Member:
    """Expected state of a process: the state of its writer of each journal."""

    process: ServedProcess
    writers: dict[str, str] = field(default_factory=dict)
    """"own", "inherited" or "closed", by name of the journal."""
    policies: dict[str, str] = field(default_factory=dict)
    bursts: set[str] = field(default_factory=set)


class Model:
    """Runs steps on the tree of processes, and compares each result with the expected one."""

    def __init__(self, server: ForkingServer, folder: Path) -> None:
        self._server = server
        self._logs = {name: Log(folder / name) for name in JOURNALS}
        self._members = [Member(server.begin())]

    def run(self, step: Step) -> None:
        """Run one step. A step that makes no sense now does nothing."""
        command, index, name, policy, count = step
        if not self._members:
            self._members.append(Member(self._server.begin()))
        member = self._members[index % len(self._members)]
        if command in CALLS:
            self._join(member, name)
            if command == "open":
                self._open(member, name, policy)
            elif name in member.writers:
                self._call(member, name, command, count)
        elif command == "fork":
            self._fork(member)
        else:
            self._end(member, command)

    def finish(self) -> None:
        """Kill all processes, and check that each journal can be continued."""
        for member in list(self._members):
            self._end(member, "kill")
        for name, log in self._logs.items():
            log.check()
            if log.path.exists():
                Writer(log.path).close()
                with Reader(log.path) as reader:
                    assert list(reader.verify(decode=False)) == [], name
        assert "Traceback" not in self._server.errors(), self._server.errors()

    def end(self) -> None:
        """Kill all processes after a failure."""
        for member in self._members:
            member.process.kill()

    def _open(self, member: Member, name: str, policy: str) -> None:
        if member.writers.get(name) == "own":
            return
        log = self._logs[name]
        result = member.process.call("open", str(log.path), policy, name == "segments")
        if any(other.writers.get(name) == "own" for other in self._members):
            assert result == "JournalLocked"
            return
        assert isinstance(result, int), result
        assert log.acknowledged <= result <= len(log.accepted)
        del log.accepted[result:]
        log.life += 1
        member.writers[name], member.policies[name] = "own", policy
        log.check()

    def _call(self, member: Member, name: str, command: str, count: int) -> None:
        log, state = self._logs[name], member.writers[name]
        arguments: tuple[object, ...] = (str(log.path),)
        if command in ("append", "burst"):
            arguments += (log.life, len(log.accepted), count)
        if state != "own" and command == "burst":
            return  # An error in a thread has no result.
        if command == "wait" and not log.accepted:
            return
        result = member.process.call(command, *arguments)
        if command == "drop":
            del member.writers[name]
        if state == "own":
            self._check_own(member, name, command, count, result)
        else:
            refusal = {"inherited": "WrongProcess", "closed": "OptionError"}[state]
            is_refused = command in ("append", "sync") or (command, state) == ("wait", "inherited")
            assert not is_refused or result == refusal, (command, state, result)
        log.check()

    def _check_own(
        self, member: Member, name: str, command: str, count: int, result: object
    ) -> None:
        log = self._logs[name]
        if command in ("append", "burst"):
            first = len(log.accepted)
            log.accepted += [make_payload(log.life, first + number) for number in range(count)]
        if command == "append":
            assert result == len(log.accepted)
            if member.policies[name] == "every":
                log.acknowledge()
        elif command == "burst":
            member.bursts.add(name)
        else:  # All other calls make everything durable.
            assert result in {"sync": (len(log.accepted),), "wait": (True,)}.get(command, (None,))
            log.acknowledge()
        if command == "close":
            member.writers[name] = "closed"

    def _join(self, member: Member, name: str) -> None:
        if name in member.bursts:
            member.bursts.remove(name)
            member.process.call("join", str(self._logs[name].path))
            self._logs[name].acknowledge()

    def _fork(self, member: Member) -> None:
        if len(self._members) < PROCESSES_MAX:
            inherited = {
                name: "closed" if state == "closed" else "inherited"
                for name, state in member.writers.items()
            }
            self._members.append(Member(self._server.fork(member.process), inherited))

    def _end(self, member: Member, command: str) -> None:
        self._members.remove(member)
        if command == "kill":
            member.process.kill()
        else:
            member.process.call("exit")
            member.process.wait()
        for name, state in member.writers.items():
            if state == "own" and command == "exit":
                self._logs[name].acknowledge()
            self._logs[name].check()


@pytest.fixture(scope="module")
def server() -> Iterator[ForkingServer]:
    with ForkingServer() as server:
        yield server


def run_history(server: ForkingServer, history: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        model = Model(server, Path(folder))
        try:
            for step in history:
                model.run(step)
            model.finish()
        finally:
            model.end()


LATE_CLOSE: list[Step] = [
    ("open", 0, "one", "explicit", 1),
    ("append", 0, "one", "", 1),
    ("fork", 0, "one", "", 1),
    ("append", 0, "one", "", 40),
    ("sync", 0, "one", "", 1),
    ("exit", 1, "one", "", 1),
    ("append", 0, "one", "", 1),
    ("exit", 0, "one", "", 1),
]
DAEMON: list[Step] = [
    ("open", 0, "segments", "interval", 1),
    ("burst", 0, "segments", "", 40),
    ("fork", 0, "one", "", 1),
    ("fork", 1, "one", "", 1),
    ("append", 2, "segments", "", 1),
    ("exit", 0, "one", "", 1),
    ("open", 1, "segments", "group", 1),
    ("append", 1, "segments", "", 40),
    ("open", 0, "segments", "none", 1),
    ("kill", 1, "segments", "", 1),
    ("open", 0, "segments", "every", 1),
    ("append", 0, "segments", "", 5),
]


@pytest.mark.parametrize("history", [LATE_CLOSE, DAEMON], ids=["late close", "daemon"])
def test_a_history_that_once_lost_events_loses_none(
    server: ForkingServer, history: list[Step]
) -> None:
    run_history(server, history)


@given(steps)
@settings(max_examples=12)
def test_no_acknowledged_event_is_lost_whoever_forks_closes_and_dies(
    server: ForkingServer, history: list[Step]
) -> None:
    run_history(server, history)


@pytest.mark.deep
@given(steps)
def test_a_campaign_of_forks_closes_and_deaths_loses_no_acknowledged_event(
    server: ForkingServer, history: list[Step]
) -> None:
    run_history(server, history)
