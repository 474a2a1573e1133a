"""Instances of one module, made, called and dropped at the speed of wasmtime, without a journal."""

import os
import threading
import time
from collections.abc import Iterable, Sequence
from ctypes import addressof, c_ubyte, create_string_buffer
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Self

import wasmtime

from journal._arguments import (
    check_buffer,
    check_int,
    check_path,
    check_seconds,
    check_text,
    iterate,
    quote,
    refuse,
)
from journal.engine.allocation import (
    InstanceAllocationStrategy,
    Pooling,
    check_allocation,
)
from journal.engine.configuration import Configuration
from journal.engine.program.engine import make_engine, make_settings
from journal.engine.program.module import compile_module, load_module, to_binary
from journal.engine.program.module_limits import check_limits
from journal.engine.program.raw_call import (
    CallBuffers,
    ExportedFunction,
    Result,
    Value,
    count_cells,
    make_function,
)
from journal.engine.program.user_cache import UserCache, get_default_cache
from journal.engine.runtime import raw_instances
from journal.engine.runtime.bindings import find_trap, make_error
from journal.engine.runtime.epoch_ticker import EpochTicker
from journal.engine.wasm import binary
from journal.engine.wasm.function_types import list_functions
from journal.engine.wasm.module_info import read_module_info
from journal.errors import InstanceTrapped, ModuleRefused, OptionError, PoolFull
from journal.fs.open_resources import OPEN_RESOURCES

STACK_SIZE = 1 << 19
"""Default size of the stack of a call in bytes, which fits into the stack of any thread."""

_TICKS = 4
"""Ticks of the clock in the time limit of a call."""
_NO_DEADLINE = 1 << 62


class _Program(NamedTuple):
    """The compiled module of a pool with its engine, and their addresses."""

    engine: Any
    pre_instance: Any
    engine_at: int
    pre_instance_at: int


class InstancePool:
    """A pool of instances of one module without imports, for many short calls.

    ``module`` is a WebAssembly module: its bytes or its path. ``allocation`` is the strategy
    (default: ``Pooling()``). ``stack_size`` bounds the stack of a call in bytes; the thread that
    makes the call must have more. A call that takes longer than ``seconds_max`` ends with
    ``InstanceTrapped``, up to a quarter later (default: no limit). ``cache`` is the directory of
    compiled modules (default: one in the cache directory of the user).

    Nothing is recorded, and no instance sees another one. All calls are safe from any thread. Two
    threads are not faster than one, because they share a lock of the kernel: use two processes.
    A forked child cannot use the pool.

    Raises ``ModuleRefused`` for a module that is invalid, has imports or does not fit into the
    pool, and ``OptionError`` for a pool that this process cannot reserve.
    """

    def __init__(
        self,
        module: bytes | str | os.PathLike[str],
        *,
        allocation: InstanceAllocationStrategy | None = None,
        stack_size: int = STACK_SIZE,
        seconds_max: float | None = None,
        cache: Path | None = None,
    ) -> None:
        strategy = Pooling() if allocation is None else check_allocation("allocation", allocation)
        if seconds_max is not None:
            check_seconds("seconds_max", seconds_max, can_be_zero=False)
        configuration = Configuration(stack_size=stack_size)
        folder = get_default_cache() if cache is None else check_path("cache", cache)
        loaded = load_module(module if isinstance(module, bytes) else check_path("module", module))
        check_limits(loaded, strategy)
        data = to_binary(loaded)
        info, self._types = read_module_info(data), list_functions(data)
        if sum(info.import_counts):
            raise ModuleRefused(
                "the module has imports: an instance pool runs modules without imports"
            )
        self._exports = info.exports
        engine = make_engine(configuration, strategy)
        settings = make_settings(configuration, strategy)
        compiled = compile_module(engine, loaded, settings, UserCache.open(folder))
        pre_instance = wasmtime.Linker(engine).instantiate_pre(compiled)
        addresses = raw_instances.get_address(engine), raw_instances.get_address(pre_instance)
        self._program: _Program | None = _Program(engine, pre_instance, *addresses)
        self._functions: dict[str, ExportedFunction] = {}
        self._cells = max([1, *(count_cells(each) for each in self._types if each)])
        self._buffers: list[CallBuffers] = []
        self._limits = _find_store_limits(strategy)
        self._wait_seconds = strategy.full_wait_seconds if isinstance(strategy, Pooling) else 0.0
        self._freed, self._waiting = threading.Condition(), 0
        self._deadline = _NO_DEADLINE
        self._ticker: EpochTicker | None = None
        if seconds_max is not None:
            self._deadline = _TICKS + 1
            self._ticker = EpochTicker(engine.increment_epoch, seconds_max / _TICKS)
            self._ticker.start()
        OPEN_RESOURCES.release_in_children(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        ticker = getattr(self, "_ticker", None)  # A module that was refused leaves no ticker.
        if ticker is not None:
            ticker.close()

    def call(self, name: str, *arguments: Value) -> Result:
        """Call an exported function in a new instance, drop the instance, and return the result.

        Integers are signed in the result. Several results are a tuple. Raises ``InstanceTrapped``,
        ``PoolFull`` if no slot is free in time, and ``OptionError`` for wrong arguments.
        """
        function = self._get_function(name)
        buffers = self._take_buffers()
        store, context = self._open(buffers)
        try:
            return _invoke(context, buffers, function, arguments)
        finally:
            raw_instances.delete_store(store)
            self._give_back(buffers)

    def call_many(self, name: str, arguments: Iterable[Sequence[Value]]) -> list[Result]:
        """Call an exported function once for each of ``arguments``, each in a new instance.

        It returns the results in the same order, and raises the first error as ``call`` does.
        """
        function = self._get_function(name)
        results: list[Result] = []
        buffers = self._take_buffers()
        try:
            for each in iterate("arguments", arguments, "sequences of numbers"):
                if not isinstance(each, tuple | list):
                    refuse("each of arguments", "a tuple or a list of numbers", each)
                store, context = self._open(buffers)
                try:
                    results.append(_invoke(context, buffers, function, each))
                finally:
                    raw_instances.delete_store(store)
                    if self._waiting:
                        self._wake()
        finally:
            self._give_back(buffers)
        return results

    def instantiate(self) -> "PooledInstance":
        """Return a new instance for several calls. It keeps its slots until it is closed.

        Raises ``PoolFull`` if no slot is free in time, and ``InstanceTrapped`` if its start
        function traps.
        """
        buffers = self._take_buffers()
        return PooledInstance(self, buffers, *self._open(buffers))

    def close(self) -> None:
        """Release the pool. Instances that are open stay usable until they are closed."""
        self._program = None
        if self._ticker is not None:
            self._ticker.close()

    def _abandon(self, owner: int) -> None:
        """Release the pool in a forked child, which has no thread that ends long calls."""
        self._program = None

    def _get_function(self, name: str) -> ExportedFunction:
        """Return the exported function with this name, and remember it."""
        try:
            return self._functions[name]
        except (KeyError, TypeError):
            check_text("name", name)
        kind, index = self._exports.get(name, (None, 0))
        type_ = self._types[index] if kind == binary.FUNCTION else None
        if type_ is None:
            raise OptionError(f"the module exports no function {quote(name)}")
        function = self._functions[name] = make_function(name, type_)
        return function

    def _take_buffers(self) -> CallBuffers:
        """Return buffers that no other thread uses."""
        try:
            return self._buffers.pop()
        except IndexError:
            return CallBuffers(self._cells)

    def _give_back(self, buffers: CallBuffers) -> None:
        """Keep the buffers of a dropped instance, and wake a thread that waits for its slots."""
        self._buffers.append(buffers)
        if self._waiting:
            self._wake()

    def _check_memory(self, name: str) -> None:
        """Raise ``OptionError`` unless a memory is exported with this name."""
        check_text("memory", name)
        if self._exports.get(name, (None, 0))[0] != binary.MEMORY:
            raise OptionError(f"the module exports no memory {quote(name)}")

    def _wake(self) -> None:
        """Wake a thread that waits for the slots of a dropped instance."""
        with self._freed:
            self._freed.notify()

    def _open(self, buffers: CallBuffers) -> tuple[int, int]:
        """Make an instance, when a slot is free; return the addresses of its store and context."""
        try:
            return self._open_now(buffers)
        except PoolFull:
            if not self._wait_seconds:
                raise
        end = time.monotonic() + self._wait_seconds
        with self._freed:
            self._waiting += 1
            try:
                # A slot may have become free before this thread counted as waiting.
                while True:
                    try:
                        return self._open_now(buffers)
                    except PoolFull:
                        remaining = end - time.monotonic()
                        if remaining <= 0:
                            raise
                    self._freed.wait(remaining)
            finally:
                self._waiting -= 1

    def _open_now(self, buffers: CallBuffers) -> tuple[int, int]:
        """Make an instance; raises ``PoolFull`` if no slot is free."""
        program = self._program
        if program is None:
            raise OptionError("the instance pool is closed, or belongs to another process")
        store = raw_instances.new_store(program.engine_at, None, None)
        context = raw_instances.get_context(store)
        if self._limits is not None:
            raw_instances.limit_store(store, *self._limits)
        raw_instances.set_deadline(context, self._deadline)
        error = raw_instances.instantiate(
            program.pre_instance_at, context, buffers.instance_at, buffers.trap_at
        )
        trap = buffers.take_trap()
        if error or trap:
            raw_instances.delete_store(store)
            _raise(error, trap)
        return store, context


class PooledInstance:
    """An instance of a pool. It is a context manager, and used by one thread at a time."""

    __slots__ = ("_buffers", "_context", "_pool", "_store")

    def __init__(self, pool: InstancePool, buffers: CallBuffers, store: int, context: int) -> None:
        self._pool, self._buffers = pool, buffers
        self._store, self._context = store, context

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def call(self, name: str, *arguments: Value) -> Result:
        """Call an exported function, and return the result as :meth:`InstancePool.call` does."""
        self._check()
        raw_instances.set_deadline(self._context, self._pool._deadline)
        return _invoke(self._context, self._buffers, self._pool._get_function(name), arguments)

    def read(self, offset: int, size: int, *, memory: str = "memory") -> bytes:
        """Return ``size`` bytes of an exported memory; raises ``OptionError`` outside of it."""
        return self._view(memory, offset, size).tobytes()

    def write(self, offset: int, data: bytes, *, memory: str = "memory") -> None:
        """Write into an exported memory; raises ``OptionError`` outside of it."""
        check_buffer("data", data)
        self._view(memory, offset, len(data))[:] = data

    def get_memory_size(self, memory: str = "memory") -> int:
        """Return the size of an exported memory in bytes."""
        self._find_memory(memory)
        size: int = raw_instances.get_memory_size(self._context, self._buffers.value_at)
        return size

    def close(self) -> None:
        """Drop the instance, which makes its slots free."""
        store, self._store = self._store, 0
        if store:
            raw_instances.delete_store(store)
            self._pool._give_back(self._buffers)

    def _check(self) -> None:
        if not self._store:
            raise OptionError("the instance is closed")

    def _find_memory(self, name: str) -> None:
        """Find an exported memory; the buffers have it."""
        self._check()
        self._pool._check_memory(name)
        encoded = create_string_buffer(name.encode())
        raw_instances.get_export(
            self._context,
            self._buffers.instance_at,
            addressof(encoded),
            len(encoded) - 1,
            self._buffers.export_at,
        )

    def _view(self, memory: str, offset: int, size: int) -> memoryview:
        check_int("offset", offset)
        check_int("size", size)
        size_max = self.get_memory_size(memory)
        if offset + size > size_max:
            raise OptionError(
                f"{size} bytes at {offset} lead out of the memory, which has {size_max} bytes"
            )
        start = raw_instances.get_memory_address(self._context, self._buffers.value_at) or 0
        return memoryview((c_ubyte * size).from_address(start + offset)).cast("B")


def _invoke(
    context: int, buffers: CallBuffers, function: ExportedFunction, arguments: Sequence[Value]
) -> Result:
    """Call a function of the instance in the buffers."""
    function.write_arguments(buffers, arguments)
    raw_instances.get_export(
        context, buffers.instance_at, function.name_at, function.name_size, buffers.export_at
    )
    error = raw_instances.call_function(
        context, buffers.value_at, buffers.cells_at, function.cells, buffers.trap_at
    )
    trap = buffers.take_trap()
    if error or trap:
        _raise(error, trap)
    return function.read_results(buffers)


def _raise(error: int | None, trap: int) -> NoReturn:
    """Raise the exception for an error or for a trap of wasmtime."""
    if trap:
        failure: Exception = raw_instances.take_trap(trap)
        found = find_trap(failure)
        if found is not None:
            raise InstanceTrapped(*found)
    else:
        failure = raw_instances.take_error(error or 0)
    raise make_error(str(failure))


def _find_store_limits(strategy: InstanceAllocationStrategy) -> tuple[int, ...] | None:
    """Return the limits of a store, unless the strategy bounds all growth itself."""
    limits = strategy.module_limits
    if limits.memory_pages is None and limits.table_elements is None:
        return None
    elements = -1 if strategy.table_elements_max is None else strategy.table_elements_max
    return strategy.memory_size_max, elements, -1, -1, -1
