"""Tests of snapshots of real programs: the programs reach the same end from each snapshot.

CPython and QuickJS run scripts that print from deep inside the interpreter: from recursion, from
callbacks of sorting, regular expressions and JSON, between steps of generators, during exceptions,
and at a prompt. SQLite runs statements and prints from its callback.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import journal
from journal.engine import Configuration, SnapshotOptions, UnknownImports
from journal.snapshots import Trigger
from tests.support.budget import Budget
from tests.support.snapshot_guests import SNAPSHOT_PROGRAMS, SnapshotGuest
from tests.support.snapshot_runs import (
    Run,
    finish_run,
    pick_evenly,
    record_guest,
    resume_guest,
    snapshots_in,
)

#: So many snapshots are taken of a run, or a few more.
TAKEN_MIN = 100
#: A run is resumed from so many of them in any case.
RESUMED_MIN = 25
#: From so many of them the rest is executed and compared.
VERIFIED_COUNT = 6

PYTHON = r"""
import json, re, sys
from contextlib import contextmanager
from functools import reduce

some = {f"name {i * 7919 % 97}" for i in range(97)}  # Its order differs between processes.
order = list(some)

def say(*what, file=None):
    print(*what, flush=True, file=file)

def hanoi(count, source, target, other):
    if not count:
        return 0
    moves = hanoi(count - 1, source, other, target)
    if count > 1:
        say("disk", count, "from", source, "to", target)
    return moves + 1 + hanoi(count - 1, other, target, source)

def down(depth, kept):
    text = f"{depth:x}" * 3
    if depth % 60 == 0:
        say("down", depth, text)
    found = down(depth - 1, [text, kept]) if depth else 0
    if depth % 60 == 0:
        say("up", depth, len(text) + found % 1000)
    return found + sum(map(ord, text))

def countdown(count):
    try:
        while count:
            more = yield count
            say("a generator was sent", more)
            count -= 1
    finally:
        say("a generator ends")

@contextmanager
def speaking(name):
    say("into", name)
    try:
        yield name * 2
    except LookupError as error:
        say("caught", type(error).__name__, error)
    finally:
        say("out of", name)

def failing(depth):
    try:
        if depth:
            failing(depth - 1)
        {}["missing"]
    except KeyError as error:
        say("in an exception", depth, error, error.__context__ is not None)
        raise IndexError(depth) from error
    finally:
        say("finally", depth)

class Loud:
    def __init__(self, value): self.value = value
    def __lt__(self, other):
        say("compares", self.value, other.value)
        return self.value < other.value
    def __del__(self): say("goes", self.value)

def hooked(pairs):
    say("an object of", len(pairs))
    return dict(reversed(pairs))

say("moves", hanoi(6, "a", "b", "c"))
say("sum", down(600, None))
steps = countdown(4)
next(steps)
for number in range(3):
    say("a generator gives", steps.send(number))
steps.close()
with speaking("context") as doubled:
    say(doubled)
    failing(3)
loud = sorted(Loud(i * 5 % 7) for i in range(7))
say([one.value for one in loud])
del loud
say(re.sub(r"(\w)(\w*)", lambda m: (say("matches", m[0]), m[2] + m[1])[1], "some words to turn"))
data = json.loads('{"a": {"b": [1, {"c": null}], "d": "\\u00e9"}}', object_pairs_hook=hooked)
say(json.dumps(data, default=str), reduce(lambda a, b: (say("adds", b), a + b)[1], range(6)))
with open("/work/lines", "w") as file:
    while True:
        try:
            line = input("what? ")
        except EOFError:
            say()
            break
        say(len(line), eval(line, {"say": say, "down": down}), file=file)
        say("had", line)
assert list(some) == order, "the order of a set is another"
say(open("/work/lines").read())
sys.exit(3)
"""
ORDERS = b"""sum(range(1000))
[x * x for x in range(5)]
say("from an evaluated line")
"-".join(map(str, range(8)))
down(125, ()) and 7
"""

JAVASCRIPT = r"""
import * as std from "qjs:std";

const say = (...what) => { std.out.puts(what.join(" ") + "\n"); std.out.flush(); };

function down(depth, kept) {
    const text = depth.toString(16).repeat(3);
    if (depth % 12 == 0) say("down", depth, text);
    const found = depth ? down(depth - 1, [text, kept]) : 0;
    if (depth % 12 == 0) say("up", depth, text.length + found % 1000);
    return found + text.charCodeAt(1);
}

function* countdown(count) {
    try {
        while (count) {
            const more = yield count--;
            say("a generator was sent", more);
        }
    } finally {
        say("a generator ends");
    }
}

function failing(depth) {
    try {
        if (depth) failing(depth - 1);
        null.missing;
    } catch (error) {
        say("in an exception", depth, error.constructor.name);
        throw new RangeError("at " + depth);
    } finally {
        say("finally", depth);
    }
}

async function waited(name, times) {
    for (let i = 0; i < times; i++) {
        say(name, "waits", i);
        await null;
    }
    return name;
}

say("sum", down(180, null));
const steps = countdown(4);
steps.next();
for (let i = 0; i < 3; i++) say("a generator gives", steps.next(i).value);
steps.return();
try { failing(4); } catch (error) { say(error.message); }
say([5, 2, 8, 1, 9, 3].sort((a, b) => { say("compares", a, b); return a - b; }));
const turned = (all, a, b) => { say("matches", all); return b + a; };
say("some words to turn".replace(/(\w)(\w*)/g, turned));
say(JSON.stringify(JSON.parse('{"a": {"b": [1, {"c": null}]}}', (key, value) => {
    say("revives", key);
    return typeof value == "number" ? value + 1 : value;
})));
say(JSON.stringify({toJSON() { say("to JSON"); return [1n < 2, new Map([[1, 2]]).size]; }}));
const loud = new Proxy({}, {get(target, name) { say("asked for", String(name)); return name; }});
say(loud.one + loud.two);
const asked = () => { std.out.puts("what? "); std.out.flush(); return std.in.getline(); };
for (let line, count = 0; (line = asked()) !== null; count++)
    say("line", count, line.length, std.evalScript(line));
const parts = await Promise.all([waited("one", 3), waited("two", 4), waited("three", 2)]);
say(parts);
const file = std.open("/work/lines", "w");
for (let i = 0; i < 12; i++) { file.puts("line " + i + "\n"); file.flush(); }
file.close();
say(std.loadFile("/work/lines").length);
std.exit(5);
"""
EXPRESSIONS = b"1 + 2\n[1, 2, 3].map(x => x * x)\n'some text'.toUpperCase()\n2 ** 10\n"

PROGRAMS = (
    SnapshotGuest(
        title="cpython",
        args=("-c", PYTHON),
        stdin=ORDERS,
        memory=("/work",),
        code=3,
        is_program=True,
    ),
    SnapshotGuest(
        title="quickjs",
        args=("-m", "-e", JAVASCRIPT),
        stdin=EXPRESSIONS,
        memory=("/work",),
        code=5,
        is_program=True,
    ),
    *SNAPSHOT_PROGRAMS,
)

#: MicroPython reads its program, and has exceptions inside.
UNUSUAL = b"""def down(depth):
    print("down", depth)
    return depth + down(depth - 1) if depth else 0

try:
    print(down(20))
    [].missing
except AttributeError as error:
    print(error)
print([i ** 3 for i in range(9)])
"""


@pytest.fixture(scope="module", params=PROGRAMS, ids=str)
def one(request: pytest.FixtureRequest) -> SnapshotGuest:
    """Return a program with its input."""
    assert isinstance(request.param, SnapshotGuest)
    return request.param


@pytest.fixture(scope="module")
def taken(
    one: SnapshotGuest, tmp_path_factory: pytest.TempPathFactory, cache_dir: Path
) -> tuple[Path, Run]:
    """Record a program with a hundred snapshots, once for all tests, and return its end."""
    folder = tmp_path_factory.mktemp(one.title)
    plain = record_guest(one, folder / "plain.journal", cache_dir)
    assert plain[0].code == one.code, plain[2].decode()
    with journal.Reader(folder / "plain.journal") as reader:
        events = reader.summary().events
    path = folder / "run.journal"
    often = SnapshotOptions(
        on=frozenset({Trigger.BOOTSTRAP}), every_events=max(1, events // TAKEN_MIN - 1)
    )
    run = record_guest(one, path, cache_dir, often)
    assert run == plain, "taking snapshots changes nothing"
    return path, run


@pytest.mark.deep
def test_a_program_goes_on_from_each_of_a_hundred_snapshots(
    taken: tuple[Path, Run], one: SnapshotGuest, cache_dir: Path, budget: Budget
) -> None:
    path, run = taken
    infos = snapshots_in(path)
    assert len(infos) >= TAKEN_MIN
    assert all(info.resumable for info in infos)
    assert all(info.has_stacks for info in infos[1:])
    for info in budget.spend(infos, RESUMED_MIN):
        assert resume_guest(one, path, cache_dir, at=info.seq) == run, f"from {info}"
        shutil.rmtree(path.with_name(f"at-{info.seq}.journal"))


@pytest.mark.deep
def test_executing_a_program_again_leads_to_what_its_snapshots_hold(
    taken: tuple[Path, Run], cache_dir: Path
) -> None:
    path, run = taken
    infos = snapshots_in(path)
    whole = journal.verify_replay(path, cache=cache_dir)
    assert whole.matches
    assert [(one.info.seq, one.matches) for one in whole.checks] == [(i.seq, True) for i in infos]
    assert whole.result == run[0]
    for info in pick_evenly(infos, VERIFIED_COUNT):
        rest = journal.verify_replay(path, start=info.seq, cache=cache_dir)
        assert rest.matches, f"from {info}"
        assert [one.info.seq for one in rest.checks] == [i.seq for i in infos if i.seq > info.seq]


@pytest.mark.deep
def test_from_each_snapshot_a_program_comes_to_the_next_one(
    taken: tuple[Path, Run], one: SnapshotGuest, tmp_path: Path, cache_dir: Path
) -> None:
    path, _ = taken
    part = tmp_path / "part.journal"
    infos = snapshots_in(path)
    journal.fork(path, part, at=infos[len(infos) // 4].seq)
    found = journal.verify_replay(part, from_each_snapshot=True, cache=cache_dir)
    assert found.matches
    assert len(found.checks) == len(snapshots_in(part))
    assert all(checked.matches for checked in found.checks)


@pytest.mark.deep
def test_a_program_that_cannot_be_unwound_is_executed_again(
    tmp_path: Path, cache_dir: Path, micropython: Path
) -> None:
    path, notes = tmp_path / "run.journal", list[str]()
    with journal.record(
        micropython,
        path,
        args=["micropython"],
        configuration=Configuration(unknown_imports=UnknownImports.TRAP),
        stdin=UNUSUAL,
        cache=cache_dir,
        durability=journal.engine.Durability.NONE,
        snapshots=SnapshotOptions(on=frozenset({Trigger.FIRST_STDIN}), every_events=2),
        note=notes.append,
    ) as recorder:
        wanted = finish_run(recorder)
    assert (wanted.outcome.code, wanted.stdout.count(b"down")) == (0, 21)
    (note,) = notes
    assert "exceptions" in note
    infos = snapshots_in(path)
    assert len(infos) > 20
    assert not any(info.has_stacks or info.resumable for info in infos)
    whole = journal.verify_replay(path, cache=cache_dir)
    assert [(checked.info.seq, checked.matches) for checked in whole.checks] == [
        (info.seq, True) for info in infos
    ]
    for info in infos:
        fork = tmp_path / f"at-{info.seq}.journal"
        journal.fork(path, fork, at=info.seq)
        with journal.resume(fork, stdin=UNUSUAL, cache=cache_dir) as recorder:
            assert finish_run(recorder) == wanted, f"from {info}"
