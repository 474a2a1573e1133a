"""Instrumentation of a guest module with Binaryen's asyncify, so that its stack can be unwound in a
host call and rewound in another process. The result is cached.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Self

import wasmtime

from journal.engine.configuration import Configuration
from journal.engine.program import asyncify_worker, binaryen
from journal.engine.program.abandonable import call_abandonable
from journal.engine.program.asyncify_worker import STACK_MEMORY_PAGES
from journal.engine.program.binaryen import BinaryenTool, InstrumentTimeout, NotInstrumentable
from journal.engine.program.engine import make_engine
from journal.engine.program.refusal import join_causes
from journal.engine.program.user_cache import UserCache, is_private
from journal.engine.wasm import binary
from journal.engine.wasm.feature_check import unsupported_reason
from journal.engine.wasm.loop_polls import insert_polls
from journal.engine.wasm.module_info import MemoryLimits, read_module_info
from journal.errors import ModuleRefused
from journal.rewrite.progress import ProgressCallback, ignore_progress, report_phase

__all__ = ["InstrumentedModule", "NotInstrumentable", "instrument"]

SECONDS_MAX = 900.0
MEMORY_SIZE_MAX = 4 << 30
"""Default limits. CPython takes 90 s and 0.7 GB, a compiler of 24 MB 10 minutes and 1.8 GB."""

INSTRUMENT_PHASE = "instrumenting the module"
"""Name of the phase in which the tool runs."""

ASYNCIFY_FUNCTIONS = frozenset(
    f"asyncify_{name}"
    for name in ("start_unwind", "stop_unwind", "start_rewind", "stop_rewind", "get_state")
)
"""Exports of an instrumented module."""

_INSTRUMENTED, _TIMEOUT = "wasm", "tried"
"""Kinds of the cached files."""
_STACK_MEMORY = MemoryLimits(STACK_MEMORY_PAGES, STACK_MEMORY_PAGES)
_LOCK_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class InstrumentedModule(NamedTuple):
    """An instrumented module, its SHA-256, and its tool, such as ``icpp-binaryen 116``."""

    data: bytes
    hash: bytes
    tool: str


def instrument(
    module: bytes,
    *,
    loops: bool = False,
    cache: Path | None = None,
    progress: ProgressCallback = ignore_progress,
    seconds_max: float = SECONDS_MAX,
    memory_size_max: int = MEMORY_SIZE_MAX,
    tool: Path | None = None,
    tool_name: str | None = None,
) -> InstrumentedModule:
    """Instrument a module; with ``loops`` it can also be suspended at loop heads.

    The same module and tool always produce the same bytes. The newest installed Binaryen is used,
    unless ``tool`` is the path of a wasm-opt, or a tool named ``tool_name`` is installed. Raises
    NotInstrumentable, and ModuleRefused for a module that is not valid.
    """
    selected = _select_tool(tool, tool_name)
    identity = _make_identity(module, selected, loops=loops)
    store = _InstrumentedCache.open(cache, identity, selected.name)
    cached = store.read()
    if cached is not None:
        return cached
    source = _prepare_source(module, loops=loops)
    store.check_timeout(seconds_max)
    with report_phase(progress, INSTRUMENT_PHASE, len(module)), store.lock():
        cached = store.read()  # Another process may have written the module meanwhile.
        if cached is not None:
            return cached
        try:
            data = binaryen.run_asyncify(source, selected, seconds_max, memory_size_max)
        except InstrumentTimeout:
            store.record_timeout(seconds_max)
            raise
        check_instrumented(data, source, selected.name)
        store.write(data)
    return InstrumentedModule(data, hashlib.sha256(data).digest(), selected.name)


def _select_tool(path: Path | None, name: str | None) -> BinaryenTool:
    if path is not None:
        return binaryen.find_tool(path)
    installed = binaryen.list_tools()
    if not installed:
        raise NotInstrumentable(
            f"Binaryen is not installed: install icpp-binaryen (the extra engine), or wasm-opt "
            f"{binaryen.VERSION_MIN} or later"
        )
    return next((tool for tool in installed if tool.name == name), installed[0])


def _prepare_source(module: bytes, *, loops: bool) -> bytes:
    """Return the input for Binaryen: a valid module with only supported features."""
    reason = unsupported_reason(module)
    if reason is not None:
        raise NotInstrumentable(reason)
    reason = _validation_error(module)
    if reason is not None:
        raise ModuleRefused(f"the module is not valid: {reason}")
    return insert_polls(module) if loops else binary.rebuild_module(module, {})


def check_instrumented(data: bytes, source: bytes, tool: str) -> None:
    """Raise NotInstrumentable unless ``data`` can be the tool's output for ``source``."""
    reason = _validation_error(data)
    if reason is not None:
        raise NotInstrumentable(f"{tool} produced a module that is not valid: {reason}")
    output, input_ = read_module_info(data), read_module_info(source)
    if ASYNCIFY_FUNCTIONS - output.exports.keys():
        raise NotInstrumentable(f"{tool} produced a module without the asyncify functions")
    if output.memories != [*input_.memories, _STACK_MEMORY]:
        raise NotInstrumentable(f"{tool} produced no stack memory")


def _validation_error(module: bytes) -> str | None:
    """Return why a module is not valid, or None."""
    try:
        call_abandonable(lambda: wasmtime.Module.validate(make_engine(Configuration()), module))
    except wasmtime.WasmtimeError as error:
        return join_causes(str(error))
    return None


def _make_identity(module: bytes, tool: BinaryenTool, *, loops: bool) -> bytes:
    """Return what an instrumented module depends on: the module, the tool and the options."""
    work = (asyncify_worker.REVISION, loops)
    parts = (hashlib.sha256(module).hexdigest(), tool.name, repr(work))
    return "\0".join(parts).encode()


class _InstrumentedCache(NamedTuple):
    """Cache of the instrumented module with one identity. An unusable cache only costs time.

    ``name`` is that of its lock. Without ``files``, nothing is cached.
    """

    files: UserCache | None
    identity: bytes
    tool: str
    name: str

    @classmethod
    def open(cls, cache: Path | None, identity: bytes, tool: str) -> Self:
        """Return the cache in the directory ``cache``."""
        if cache is None:
            return cls(None, identity, tool, "")
        files = UserCache.open(cache)
        return cls(files, identity, tool, files.make_name(_INSTRUMENTED, identity))

    def read(self) -> InstrumentedModule | None:
        cached = self.files.read(_INSTRUMENTED, self.identity) if self.files is not None else None
        return InstrumentedModule(*cached, self.tool) if cached is not None else None

    def write(self, data: bytes) -> None:
        if self.files is not None:
            self.files.write(_INSTRUMENTED, self.identity, data)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Exclude other processes that instrument the same module, which takes minutes."""
        with ExitStack() as stack:
            if self.files is not None:
                folder = self.files.folder
                with suppress(OSError):
                    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                    if is_private(folder):
                        lock = os.open(folder / f"{self.name}.lock", _LOCK_FLAGS, 0o600)
                        fcntl.flock(stack.enter_context(os.fdopen(lock)), fcntl.LOCK_EX)
                        # Closing does not unlock while a forked child has a copy.
                        stack.callback(fcntl.flock, lock, fcntl.LOCK_UN)
            yield

    def record_timeout(self, seconds_max: float) -> None:
        """Record a timeout, so that later runs do not wait for the same timeout again."""
        if self.files is not None:
            self.files.write(_TIMEOUT, self._timeout_identity(seconds_max), b"")

    def check_timeout(self, seconds_max: float) -> None:
        """Raise InstrumentTimeout if an earlier attempt with the same limit timed out."""
        if self.files is None:
            return
        identity = self._timeout_identity(seconds_max)
        if self.files.read(_TIMEOUT, identity) is not None:
            mark = self.files.folder / f"{self.files.make_name(_TIMEOUT, identity)}.{_TIMEOUT}"
            raise InstrumentTimeout(
                f"instrumentation took longer than {seconds_max:g} s in an earlier "
                f"run; remove {mark} to try again"
            )

    def _timeout_identity(self, seconds_max: float) -> bytes:
        return self.identity + f"\0{seconds_max:g}".encode()
