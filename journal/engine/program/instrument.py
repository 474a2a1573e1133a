"""Instruments a guest's module, so that its stack can be unwound at a call of the host and wound
up again in another process: with Binaryen's asyncify, once for each module, kept in a cache.
"""

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import wasmtime

from journal.engine.configuration import Configuration
from journal.engine.program import asyncify_worker as asyncifying
from journal.engine.program import binaryen
from journal.engine.program import module as loading
from journal.engine.program.asyncify_worker import STACK_MEMORY_PAGES
from journal.engine.program.binaryen import BinaryenTool, InstrumentTimeout, NotInstrumentable
from journal.engine.wasm import binary
from journal.engine.wasm.feature_check import unsupported_reason
from journal.engine.wasm.loop_polls import insert_polls
from journal.engine.wasm.module_info import MemoryLimits, read_module_info
from journal.errors import JournalError, ModuleRefused
from journal.fs import atomic_file as durable

__all__ = ["InstrumentedModule", "NotInstrumentable", "instrument"]

SECONDS_MAX = 900.0
MEMORY_SIZE_MAX = 4 << 30
"""Defaults: CPython takes 90 seconds and 0.7 GB, and a compiler of 24 MB 10 minutes and 1.8 GB."""

ASYNCIFY_FUNCTIONS = frozenset(
    f"asyncify_{name}"
    for name in ("start_unwind", "stop_unwind", "start_rewind", "stop_rewind", "get_state")
)
"""What an instrumented module exports."""

_LARGE_SIZE = 4 << 20
_STACK_MEMORY = MemoryLimits(STACK_MEMORY_PAGES, STACK_MEMORY_PAGES)
_LOCK_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class InstrumentedModule(NamedTuple):
    """An instrumented module, its SHA-256, and what made it, such as ``icpp-binaryen 116``."""

    data: bytes
    hash: bytes
    tool: str


def instrument(
    module: bytes,
    *,
    loops: bool = False,
    cache: Path | None = None,
    note: Callable[[str], None] = lambda text: None,
    seconds_max: float = SECONDS_MAX,
    memory_size_max: int = MEMORY_SIZE_MAX,
    tool: Path | None = None,
    tool_name: str | None = None,
) -> InstrumentedModule:
    """Instrument a module; with ``loops`` it can be left at each loop's head as well.

    The same module and tool always give the same bytes. The newest Binaryen that is installed does
    it, unless ``tool`` is the path of a wasm-opt, or the one called ``tool_name`` is there.
    ``note`` is told before what takes long. Raises NotInstrumentable, and ModuleRefused for a
    module that is not valid.
    """
    chosen = _select_tool(tool, tool_name)
    store = _InstrumentedCache(cache, _cache_key(module, chosen, loops=loops), chosen.name)
    found = store.read()
    if found is not None:
        return found
    lean = _prepare_source(module, loops=loops)
    store.check_timeout(seconds_max)
    if len(lean) > _LARGE_SIZE:
        note(f"instrumenting {len(lean) >> 20} MiB for snapshots; once, this takes minutes")
    with store.lock():
        found = store.read()  # another process made it, while this one waited
        if found is not None:
            return found
        try:
            data = binaryen.run_asyncify(lean, chosen, seconds_max, memory_size_max)
        except InstrumentTimeout:
            store.record_timeout(seconds_max)
            raise
        check_instrumented(data, lean, chosen.name)
        store.write(data)
    return InstrumentedModule(data, hashlib.sha256(data).digest(), chosen.name)


def _select_tool(path: Path | None, name: str | None) -> BinaryenTool:
    if path is not None:
        return binaryen.find_tool(path)
    there = binaryen.list_tools()
    if not there:
        raise NotInstrumentable(
            f"there is no Binaryen: install icpp-binaryen (the extra asyncify), or a wasm-opt of "
            f"version {binaryen.VERSION_MIN} or later"
        )
    return next((one for one in there if one.name == name), there[0])


def _prepare_source(module: bytes, *, loops: bool) -> bytes:
    """What is given to Binaryen: a valid module that it can be expected to understand."""
    reason = unsupported_reason(module)
    if reason is not None:
        raise NotInstrumentable(reason)
    reason = _validation_error(module)
    if reason is not None:
        raise ModuleRefused(f"the module is not valid: {reason}")
    return insert_polls(module) if loops else binary.rebuild_module(module, {})


def check_instrumented(data: bytes, source: bytes, tool: str) -> None:
    """Raise NotInstrumentable unless this is what a tool can have made of ``source``."""
    reason = _validation_error(data)
    if reason is not None:
        raise NotInstrumentable(f"{tool} made a module that is not valid: {reason}")
    made, given = read_module_info(data), read_module_info(source)
    if ASYNCIFY_FUNCTIONS - made.exports:
        raise NotInstrumentable(f"{tool} made a module that cannot be unwound")
    if made.memories != [*given.memories, _STACK_MEMORY]:
        raise NotInstrumentable(f"{tool} made no memory for stacks")


def _validation_error(module: bytes) -> str | None:
    """What is wrong with a module, or nothing."""
    try:
        wasmtime.Module.validate(loading.make_engine(Configuration()), module)
    except wasmtime.WasmtimeError as error:
        return "; ".join(str(error).strip().splitlines()[:3])
    return None


def _cache_key(module: bytes, tool: BinaryenTool, *, loops: bool) -> str:
    """A name that only the module, the tool and what is asked of it decide."""
    work = (asyncifying.REVISION, loops)
    parts = (hashlib.sha256(module).hexdigest(), tool.name, repr(work))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


class _InstrumentedCache(NamedTuple):
    """Where a result is kept. A cache that cannot be used costs time, nothing else.

    What is read from it runs: the name of a file has its hash, and nobody else can write it.
    """

    cache: Path | None
    key: str
    tool: str

    def read(self) -> InstrumentedModule | None:
        if self.cache is None:
            return None
        with suppress(OSError):
            found = self.cache.glob(f"{self.key}-*.wasm") if loading.is_private(self.cache) else ()
            for path in found:
                data = path.read_bytes() if loading.is_private(path) else b""
                hash_ = hashlib.sha256(data).digest()
                if path.name == f"{self.key}-{hash_.hex()}.wasm":
                    return InstrumentedModule(data, hash_, self.tool)
        return None

    def write(self, data: bytes) -> None:
        if self.cache is None:
            return
        with suppress(OSError, JournalError):
            durable.replace(
                self.cache / f"{self.key}-{hashlib.sha256(data).hexdigest()}.wasm", data
            )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Let no other process do the same at this time: it would take minutes, and waits here."""
        with ExitStack() as held:
            if self.cache is not None:
                with suppress(OSError):
                    self.cache.mkdir(mode=0o700, parents=True, exist_ok=True)
                    if loading.is_private(self.cache):
                        lock = os.open(self.cache / f"{self.key}.lock", _LOCK_FLAGS, 0o600)
                        fcntl.flock(held.enter_context(os.fdopen(lock)), fcntl.LOCK_EX)
            yield

    def record_timeout(self, seconds_max: float) -> None:
        """Remember that it took too long, so that nobody waits for it again at every start."""
        if self.cache is not None:
            with suppress(OSError):
                durable.replace(self._timeout_path(seconds_max), b"")

    def check_timeout(self, seconds_max: float) -> None:
        """Raise TookTooLong if an earlier attempt with as much time came to no end."""
        if self.cache is None:
            return
        with suppress(OSError):
            mark = self._timeout_path(seconds_max)
            if loading.is_private(self.cache) and mark.exists():
                raise InstrumentTimeout(
                    f"it took longer than {seconds_max:g} s when it was tried; "
                    f"remove {mark} to try again"
                )

    def _timeout_path(self, seconds_max: float) -> Path:
        assert self.cache is not None
        return self.cache / f"{self.key}-{seconds_max:g}s.tried"
