"""Tests of instrumentation: unwinding, rewinding, refused modules, failing tools and the cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import struct
import subprocess
import sys
import threading
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import pytest
import wasmtime
from hypothesis import given

from journal.engine.configuration import Configuration
from journal.engine.program import binaryen
from journal.engine.program.asyncify_worker import STACK_MEMORY_PAGES
from journal.engine.program.engine import make_engine
from journal.engine.program.instrument import (
    ASYNCIFY_FUNCTIONS,
    InstrumentedModule,
    NotInstrumentable,
    _InstrumentedCache,
)
from journal.engine.program.instrument import (
    instrument as instrument_with,
)
from journal.engine.wasm.module_info import MemoryLimits, read_module_info
from journal.engine.wasm.state_exports import export_state
from journal.errors import JournalError, ModuleRefused
from tests.support.deadlines import DEADLINE_SECONDS, wait_until
from tests.support.forks import idle_child
from tests.support.programs import guest, program
from tests.support.wasm_modules import ALL_GUESTS, damaged_guests
from tests.support.wasmtime_polls import PolledGuest
from tests.support.wat import module

LIBRARY = "icpp-binaryen 116"
#: By the same tool wherever the tests run, unless they name another.
instrument = partial(instrument_with, tool_name=LIBRARY)
#: Guests that cannot be instrumented, and the reasons.
UNFIT = {
    "jumps": "has exceptions, which cannot be unwound",
    "tails": "has a tail call, which cannot be unwound",
    "references": "has references in its locals while it calls another",
    "elements": "invalid code after misc prefix: 17",
}
STACK_AT = 16
_FAKE = """#!/bin/sh
if [ "$1" = --version ]; then echo "wasm-opt version {version} (and more)"; exit 0; fi
echo "$@" >> "{folder}/runs"
{does}
"""


@pytest.fixture(scope="module")
def tool() -> str:
    """Return the Binaryen that the tests need."""
    if LIBRARY not in [one.name for one in binaryen.list_tools()]:
        pytest.skip(f"there is no {LIBRARY}")
    return LIBRARY


def write_fake_tool(folder: Path, does: str, version: int = 999) -> Path:
    """Return a wasm-opt that runs a script: $1 is its input, $3 its output."""
    path = folder / "wasm-opt"
    path.write_text(_FAKE.format(version=version, folder=folder, does=does))
    path.chmod(0o700)
    return path


def runs(folder: Path) -> int:
    """Return the number of runs of a fake."""
    found = folder / "runs"
    return len(found.read_text().splitlines()) if found.exists() else 0


def write_constant_tool(folder: Path, made: bytes, before: str = "") -> Path:
    """Return a wasm-opt with a constant output."""
    (folder / "made.wasm").write_bytes(made)
    return write_fake_tool(folder, f'{before}\ncp "{folder}/made.wasm" "$3"')


def instrument_guest(name: str = "spin") -> InstrumentedModule:
    return instrument(guest(name).read_bytes())


def is_gone(pid: int) -> bool:
    """Return whether a process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


# -- results -------------------------------------------------------------------------------------


@pytest.mark.deep
@pytest.mark.usefixtures("tool")
@pytest.mark.parametrize("loops", [False, True], ids=["calls", "loops"])
@pytest.mark.parametrize("path", ALL_GUESTS, ids=lambda path: path.stem)
def test_a_guest_is_instrumented_or_it_is_said_why_not(path: Path, loops: bool) -> None:
    data = path.read_bytes()
    if path.stem in UNFIT:
        with pytest.raises(NotInstrumentable, match=UNFIT[path.stem]):
            instrument(data, loops=loops)
        return
    made = instrument(data, loops=loops)
    wasmtime.Module.validate(make_engine(Configuration()), made.data)
    assert made.hash == hashlib.sha256(made.data).digest()
    before, after = read_module_info(data), read_module_info(made.data)
    assert after.exports.keys() >= before.exports.keys() | ASYNCIFY_FUNCTIONS
    assert after.memories[:-1] == before.memories
    assert after.memories[-1] == MemoryLimits(STACK_MEMORY_PAGES, STACK_MEMORY_PAGES)


@pytest.mark.usefixtures("tool")
@pytest.mark.parametrize("name", ["tables", "memories"])
def test_the_same_module_gives_the_same_bytes(name: str) -> None:
    data = guest(name).read_bytes()
    for loops in (False, True):
        assert instrument(data, loops=loops) == instrument(data, loops=loops)


@pytest.mark.deep
@pytest.mark.usefixtures("tool")
@pytest.mark.parametrize("name", ["computing", "deep", "simd", "pointers", "globals", "start"])
def test_an_instrumented_guest_says_the_same(name: str, tmp_path: Path) -> None:
    data = guest(name).read_bytes()
    said = []
    for one in (data, instrument(data).data, instrument(data, loops=True).data):
        at_work = PolledGuest(one, tmp_path, lambda _: None, (name, "3"), tick_seconds=1000)
        at_work.run()
        said.append(at_work.stdout)
    assert said[0]
    assert said[0] == said[1] == said[2]


DEEP = """(module (import "env" "host" (func $host (param i32) (result i32)))
    (memory (export "memory") 1)
    (func $down (param i32) (result i32) (local i32)
        (if (result i32) (local.get 0)
            (then (local.set 1 (call $host (local.get 0)))
                (i32.add (local.get 1)
                    (i32.mul (i32.const 3) (call $down (i32.sub (local.get 0) (i32.const 1))))))
            (else (call $host (i32.const 0)))))
    (func (export "_start") (result i32) (call $down (i32.const 6))))"""


HEAD = struct.Struct("<II")


class Life:
    """An instance of DEEP, with the calls that its host has received; it may stop at a call."""

    def __init__(self, data: bytes, calls: int = 0, stop_at: int | None = None) -> None:
        self.calls, self._stop_at, self._is_rewinding = calls, stop_at, False
        revealed = export_state(data)
        engine = make_engine(Configuration())
        self._store = wasmtime.Store(engine)
        self._store.set_epoch_deadline(1 << 40)
        number = wasmtime.ValType.i32()
        host = wasmtime.Func(self._store, wasmtime.FuncType([number], [number]), self._host)
        compiled = wasmtime.Module(engine, revealed.data)
        self._exports = wasmtime.Instance(self._store, compiled, [host]).exports(self._store)
        self._stacks = revealed.memories[-1]

    def call(self, name: str, *arguments: int) -> object:
        function = self._exports[name]
        assert isinstance(function, wasmtime.Func)
        return function(self._store, *arguments)

    def memory(self, name: str = "memory") -> bytes:
        memory = self._exports[name]
        assert isinstance(memory, wasmtime.Memory)
        return bytes(memory.read(self._store, 0, 1 << 16))

    def stack(self) -> bytes:
        """Return the unwound stack after the guest has returned."""
        self.call("asyncify_stop_unwind")
        return self.memory(self._stacks)

    def go_on(self, stack: bytes) -> object:
        """Return the result of a call that another instance began."""
        self._put(stack)
        self.call("asyncify_start_rewind", 0)
        self._is_rewinding = True
        return self.call("_start")

    def _put(self, data: bytes) -> None:
        memory = self._exports[self._stacks]
        assert isinstance(memory, wasmtime.Memory)
        memory.write(self._store, data, 0)

    def _host(self, value: int) -> int:
        if self._is_rewinding:
            self.call("asyncify_stop_rewind")
            self._is_rewinding = False
        elif self.calls == self._stop_at:
            self._put(HEAD.pack(STACK_AT, 1 << 16))
            self.call("asyncify_start_unwind", 0)
            return 0
        self.calls += 1
        return value * value + 1


@pytest.mark.usefixtures("tool")
def test_a_stack_goes_from_one_instance_to_another_at_every_call() -> None:
    plain, made = Life(module(DEEP)), instrument(module(DEEP)).data
    expected = plain.call("_start")
    whole = Life(made)
    assert (whole.call("_start"), whole.calls) == (expected, plain.calls)
    sizes = []
    for stop_at in range(plain.calls):
        first = Life(made, stop_at=stop_at)
        first.call("_start")
        stack = first.stack()
        assert first.memory() == bytes(1 << 16), "nothing of the guest's own is borrowed"
        second = Life(made, first.calls)
        assert (second.go_on(stack), second.calls) == (expected, plain.calls)
        sizes.append(HEAD.unpack_from(stack)[0])
    assert sizes == sorted(set(sizes)), "deeper calls have larger stacks"


@pytest.mark.usefixtures("tool")
def test_a_guest_is_held_up_and_goes_on_where_loops_begin_again(tmp_path: Path) -> None:
    data = guest("computing").read_bytes()
    arguments = ("computing", "60")
    plain = PolledGuest(data, tmp_path, lambda _: None, arguments)
    plain.run()
    expected = plain.stdout
    made = instrument(data, loops=True).data
    motions = ["running"]

    def poll(held: PolledGuest) -> None:
        if motions[-1] == "rewinding":
            held.call("asyncify_stop_rewind")
            motions.append("running")
        else:
            held.export(stacks).write(held.store, HEAD.pack(STACK_AT, 1 << 20), 0)
            held.call("asyncify_start_unwind", 0)
            motions.append("unwinding")

    revealed = export_state(made)
    stacks = revealed.memories[-1]
    held = PolledGuest(revealed.data, tmp_path, poll, arguments)
    held.run()
    while motions[-1] == "unwinding":
        held.call("asyncify_stop_unwind")
        held.call("asyncify_start_rewind", 0)
        motions.append("rewinding")
        held.run()
    assert held.stdout == expected
    assert motions.count("rewinding") > 2


@pytest.mark.deep
@pytest.mark.usefixtures("tool")
@pytest.mark.parametrize("loops", [True], ids=["loops"])
def test_quickjs_says_the_same(tmp_path: Path, loops: bool) -> None:
    data = program("quickjs").read_bytes()
    script = "let s = 0; for (let i = 0; i < 1e5; i++) s = (s * 31 + i) | 0; print(s, [3,1].sort())"
    said = []
    made = instrument(data, loops=loops)
    assert made == instrument(data, loops=loops)
    for one in (data, made.data):
        at_work = PolledGuest(
            one, tmp_path, lambda _: None, ("qjs", "-e", script), tick_seconds=0.01
        )
        at_work.run()
        said.append(at_work.stdout)
    assert said[0].strip()
    assert said[0] == said[1]


# -- refused modules ------------------------------------------------------------------------------

_HOST = '(import "env" "h" (func $h)) '


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("(tag $e) (func (throw $e))", "function 1 of the module has exceptions, which cannot"),
        ("(func) (func (try_table (call $h)))", "function 2 of the module has exceptions"),
        ("(func $f (return_call $f))", "function 1 of the module has a tail call"),
        ("(table 1 funcref) (func (return_call_indirect (i32.const 0)))", "a tail call"),
        ("(memory 1 2 shared)", "memory 0 of the module is shared between threads"),
        ('(import "a" "m" (memory 1 2 shared))', "memory 0 of the module is shared"),
        ("(memory 1) (func (atomic.fence))", "function 1 of the module has atomic instructions"),
        ("(memory 1) (memory i64 1)", "memory 1 of the module has addresses of 64 bits"),
        ("(func (local funcref) (call $h))", "function 1 of the module has references in its loc"),
        ("(func (param externref) (call $h))", "function 1 of the module has references in its"),
        (
            "(type $s (struct)) (func (drop (struct.new $s)))",
            "function 1 of the module has objects",
        ),
        ("(type $s (array i8))", "the module has types of objects of garbage collection"),
        ('(func (export "asyncify_start_unwind"))', "the module uses asyncify itself"),
    ],
)
def test_a_refusal_names_the_feature_and_the_place(text: str, reason: str, tmp_path: Path) -> None:
    never = write_fake_tool(tmp_path, "exit 0")
    with pytest.raises(NotInstrumentable, match=reason):
        instrument(module(f"(module {_HOST} {text})"), tool=never)
    assert runs(tmp_path) == 0


@pytest.mark.usefixtures("tool")
def test_references_that_are_not_held_in_a_call_are_fine() -> None:
    text = "(table 1 funcref) (func (local funcref) (table.set (i32.const 0) (local.get 0)))"
    assert instrument(module(f"(module {_HOST} {text})")).data


@pytest.mark.usefixtures("tool")
def test_what_only_binaryen_can_see_is_told_in_our_words() -> None:
    text = """(table (export "t") 1 funcref) (func $g (result i32) (call $h) (i32.const 1))
        (func (export "f") (i32.const 0) (table.get (i32.const 0)) (drop (call $g)) (table.set))"""
    with pytest.raises(NotInstrumentable, match="a function holds a reference while it calls"):
        instrument(module(f"(module {_HOST} {text})"))
    blocks = """(func (export "f") (i32.const 1) (i32.const 2)
        (drop (block (param i32 i32) (result i32) (call $h) i32.add)))"""
    with pytest.raises(NotInstrumentable, match="a block takes values from outside the block"):
        instrument(module(f"(module {_HOST} {blocks})"))


def test_an_invalid_module_never_gets_to_binaryen(tmp_path: Path) -> None:
    never = write_fake_tool(tmp_path, "exit 0")
    data = bytearray(module("(module (func (drop (i32.const 1))))"))
    data[data.rindex(b"\x41\x01\x1a")] = 0x42 - 1 + 2  # f32.const, truncated.
    for bad in (bytes(data), b"", b"\0asm", module("(module (func))")[:-1]):
        with pytest.raises(ModuleRefused):
            instrument(bad, tool=never)
    assert runs(tmp_path) == 0


@pytest.mark.deep
@pytest.mark.usefixtures("tool")
@given(damaged_guests())
def test_a_damaged_module_is_instrumented_or_refused(data: bytes) -> None:
    with suppress(JournalError):
        instrument(data, seconds_max=20)


# -- tools that fail -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("does", "reason"),
    [
        ("kill -ABRT $$", "wasm-opt 999 was killed by SIGABRT while instrumenting the module"),
        ("exit 3", "wasm-opt 999 failed with exit code 3 while instrumenting the module"),
        (
            "echo 'Fatal: no way' >&2; exit 1",
            "wasm-opt 999 cannot instrument the module: Fatal: no way",
        ),
        ("printf 'a\\033[1mb\\n' >&2; exit 1", "cannot instrument the module: a.\\[1mb"),
        ("exit 0", "cannot run wasm-opt 999: .*No such file"),
        ('cp "$1" "$3"', "wasm-opt 999 produced a module without the asyncify functions"),
        ('head -c 100 "$1" > "$3"', "produced a module that is not valid"),
        ('echo hello > "$3"', "produced a module that is not valid"),
        (
            'while :; do echo "$1$1$1$1$1$1$1$1"; done',
            "instrumentation took longer than 1 s",
        ),
    ],
)
def test_a_tool_that_fails_is_a_reason(does: str, reason: str, tmp_path: Path) -> None:
    failing = write_fake_tool(tmp_path, does)
    seconds = 1 if "longer" in reason else DEADLINE_SECONDS
    with pytest.raises(NotInstrumentable, match=reason) as caught:
        instrument(guest("spin").read_bytes(), tool=failing, seconds_max=seconds)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("tool")
def test_a_tool_that_makes_no_memory_for_stacks_is_found_out(tmp_path: Path) -> None:
    exports = "".join(f'(func (export "{name}"))' for name in ASYNCIFY_FUNCTIONS)
    without = module(f'(module {exports} (memory (export "memory") 2))')
    small = module(f'(module {exports} (memory (export "memory") 2) (memory 1 1))')
    for made in (without, small):
        with pytest.raises(NotInstrumentable, match="wasm-opt 999 produced no stack memory"):
            instrument(guest("spin").read_bytes(), tool=write_constant_tool(tmp_path, made))


def test_a_tool_that_hangs_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    hanging = write_fake_tool(tmp_path, f'sleep 600 & echo $$ $! > "{tmp_path}/pids"; wait')
    pids = tmp_path / "pids"
    for seconds in (1, 10, 100):  # A busy machine may need longer to start the tool.
        with pytest.raises(
            NotInstrumentable, match=rf"instrumentation took longer than {seconds} s"
        ):
            instrument(guest("spin").read_bytes(), tool=hanging, seconds_max=seconds)
        if pids.exists() and len(pids.read_text().split()) == 2:
            break
    assert len(pids.read_text().split()) == 2
    for pid in pids.read_text().split():
        wait_until(lambda pid=pid: is_gone(int(pid)))  # type: ignore[misc]


def test_a_tool_ends_when_its_caller_is_interrupted(tmp_path: Path) -> None:
    class Interrupted(Exception):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupted

    pids = tmp_path / "pids"
    hanging = write_fake_tool(tmp_path, f'echo $$ > "{pids}"; exec sleep 600')
    before = signal.signal(signal.SIGUSR1, interrupt)

    def interrupt_soon() -> None:
        wait_until(lambda: pids.exists() and pids.read_text() != "")
        os.kill(os.getpid(), signal.SIGUSR1)

    waiting = threading.Thread(target=interrupt_soon)
    waiting.start()
    try:
        with pytest.raises(Interrupted):
            instrument(guest("spin").read_bytes(), tool=hanging)
    finally:
        waiting.join()
        signal.signal(signal.SIGUSR1, before)
    wait_until(lambda: is_gone(int(pids.read_text())))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of this")
def test_a_tool_ends_when_its_caller_is_killed(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    hanging = write_fake_tool(tmp_path, f'echo $$ > "{pids}"; exec sleep 600')
    text = f"""if True:
        from pathlib import Path
        from journal.engine.program.instrument import instrument
        instrument(Path({str(guest("spin"))!r}).read_bytes(), tool=Path({str(hanging)!r}))
    """
    caller = subprocess.Popen([sys.executable, "-c", text])
    wait_until(lambda: pids.exists() and pids.read_text() != "")
    assert not is_gone(int(pids.read_text()))
    caller.kill()
    caller.wait()
    wait_until(lambda: is_gone(int(pids.read_text())))


@pytest.mark.usefixtures("tool")
def test_a_tool_has_no_more_memory_than_it_is_given() -> None:
    # Without memory, Binaryen aborts or deadlocks until its time is over.
    with pytest.raises(NotInstrumentable):
        instrument(guest("families").read_bytes(), memory_size_max=48 << 20, seconds_max=10)


def test_a_tool_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = tmp_path / "room"
    room.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(room))
    seen = tmp_path / "seen"
    failing = write_fake_tool(tmp_path, f'stat -c %a "$(dirname "$1")" > "{seen}"; exit 1')
    with pytest.raises(NotInstrumentable):
        instrument(guest("spin").read_bytes(), tool=failing)
    assert seen.read_text() == "700\n"
    assert list(room.iterdir()) == []


# -- which tool ------------------------------------------------------------------------------------


def test_the_newest_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    write_fake_tool(tmp_path, "exit 1", version=998)
    assert binaryen.list_tools()[0].name == "wasm-opt 998"
    write_fake_tool(tmp_path, "exit 1", version=115)
    assert all(one.name != "wasm-opt 115" for one in binaryen.list_tools())
    with pytest.raises(NotInstrumentable, match="is version 115; version 116 or later is required"):
        instrument(guest("spin").read_bytes(), tool=tmp_path / "wasm-opt")


def test_a_tool_can_be_asked_for_by_its_name(
    tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    write_fake_tool(tmp_path, "exit 1", version=998)
    data = guest("spin").read_bytes()
    assert instrument(data, tool_name=tool).tool == tool
    with pytest.raises(NotInstrumentable, match="wasm-opt 998"):
        instrument(data, tool_name="wasm-opt 997")


@pytest.mark.parametrize(
    "text", ["#!/bin/sh\necho something else\n", "#!/bin/sh\nexit 1\n", "junk"]
)
def test_what_is_no_wasm_opt_is_not_used(text: str, tmp_path: Path) -> None:
    path = tmp_path / "wasm-opt"
    path.write_text(text)
    for mode in (0o600, 0o700):
        path.chmod(mode)
        with pytest.raises(NotInstrumentable, match="wasm-opt"):
            instrument(guest("spin").read_bytes(), tool=path)


def test_where_there_is_no_binaryen_it_is_said_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(binaryen, "list_tools", list)
    with pytest.raises(NotInstrumentable, match="install icpp-binaryen"):
        instrument(guest("spin").read_bytes())


# -- the cache ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("tool")
def test_a_module_is_instrumented_once(tmp_path: Path) -> None:
    made = instrument_guest()
    counting = write_constant_tool(tmp_path, made.data)
    cache = tmp_path / "cache"
    data = guest("spin").read_bytes()
    found = [instrument(data, tool=counting, cache=cache) for _ in range(3)]
    assert found == [made._replace(tool="wasm-opt 999")] * 3
    assert runs(tmp_path) == 1
    for path in [cache, *cache.iterdir()]:
        assert path.stat().st_mode & 0o077 == 0


@pytest.mark.usefixtures("tool")
def test_another_module_tool_or_way_is_made_anew(tmp_path: Path) -> None:
    counting = write_constant_tool(tmp_path, instrument_guest().data)
    cache, data = tmp_path / "cache", guest("spin").read_bytes()
    instrument(data, tool=counting, cache=cache)
    instrument(data, tool=counting, cache=cache, loops=True)
    instrument(data + b"\0\2\1x", tool=counting, cache=cache)
    instrument(
        data, tool=write_fake_tool(tmp_path, f'cp "{tmp_path}/made.wasm" "$3"', 998), cache=cache
    )
    assert runs(tmp_path) == 4
    assert len(list(cache.glob("*.wasm"))) == 4


@pytest.mark.usefixtures("tool")
@pytest.mark.parametrize("harm", ["torn", "flipped", "writable", "directory", "foreign name"])
def test_a_file_that_cannot_be_trusted_is_not_used(harm: str, tmp_path: Path) -> None:
    made = instrument_guest()
    counting = write_constant_tool(tmp_path, made.data)
    cache, data = tmp_path / "cache", guest("spin").read_bytes()
    instrument(data, tool=counting, cache=cache)
    (kept,) = cache.glob("*.wasm")
    if harm == "torn":
        kept.write_bytes(made.data[:-1])
    elif harm == "flipped":
        kept.write_bytes(made.data[:-1] + b"\xff")
    elif harm == "writable":
        kept.chmod(0o622)
    elif harm == "directory":
        cache.chmod(0o777)
    else:
        kept.rename(kept.with_name("0" * 64 + kept.name[64:]))
    assert instrument(data, tool=counting, cache=cache).data == made.data
    assert runs(tmp_path) == 2


@pytest.mark.usefixtures("tool")
def test_a_cache_that_cannot_be_used_costs_time_only(tmp_path: Path) -> None:
    made = instrument_guest()
    counting = write_constant_tool(tmp_path, made.data)
    (tmp_path / "file").write_text("no directory")
    found = instrument(guest("spin").read_bytes(), tool=counting, cache=tmp_path / "file" / "cache")
    assert found.data == made.data


@pytest.mark.deep
@pytest.mark.usefixtures("tool")
def test_of_two_at_once_one_waits_for_the_other(tmp_path: Path) -> None:
    counting = write_constant_tool(tmp_path, instrument_guest().data, before="sleep 0.5")
    text = f"""if True:
        from pathlib import Path
        from journal.engine.program.instrument import instrument
        data = Path({str(guest("spin"))!r}).read_bytes()
        folder = Path({str(tmp_path)!r})
        print(instrument(data, tool=Path({str(counting)!r}), cache=folder / "cache").hash.hex())
    """
    both = [subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE) for _ in "ab"]
    said = {one.communicate()[0] for one in both}
    assert len(said) == 1
    assert runs(tmp_path) == 1


@pytest.mark.deep
def test_nobody_waits_twice_for_what_takes_too_long(tmp_path: Path) -> None:
    hanging = write_fake_tool(tmp_path, "exec sleep 600")
    cache, data = tmp_path / "cache", guest("spin").read_bytes()
    for reason in (
        "instrumentation took longer than 0.5 s",
        "instrumentation took longer than 0.5 s in an earlier run",
    ):
        with pytest.raises(NotInstrumentable, match=reason):
            instrument(data, tool=hanging, cache=cache, seconds_max=0.5)
    assert runs(tmp_path) == 1
    with pytest.raises(NotInstrumentable, match=r"longer than 0\.6 s$"):
        instrument(data, tool=hanging, cache=cache, seconds_max=0.6)
    assert runs(tmp_path) == 2


@pytest.mark.usefixtures("tool")
def test_instrumentation_reports_its_begin_and_its_end_once(tmp_path: Path) -> None:
    data, reports = guest("spin").read_bytes(), list[tuple[str, int, int]]()
    for _ in range(2):
        instrument(data, cache=tmp_path / "cache", progress=lambda *one: reports.append(one))
    assert reports == [("instrumenting the module", done, len(data)) for done in (0, len(data))]


def test_a_forked_child_does_not_keep_the_lock_of_the_cache(tmp_path: Path) -> None:
    cache = _InstrumentedCache.open(tmp_path / "cache", b"identity", "tool")
    with ExitStack() as stack:
        with cache.lock():
            stack.enter_context(idle_child())
        file = stack.enter_context((tmp_path / "cache" / f"{cache.name}.lock").open())
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
