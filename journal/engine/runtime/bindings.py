"""Bindings to wasmtime's C layer; the only module that uses wasmtime's private names.

Host functions are defined through ``wasmtime_linker_define_func_unchecked`` with raw addresses: a
call costs about 0.5 µs instead of 11 µs with the Python API. An exception that left a raw callback
would be a segmentation fault, so each callback stores the exception in the :class:`Instance` and
returns a trap. The instance keeps references to the ctypes objects that C uses. A view of memory is
renewed when the memory has grown.
"""

import ctypes
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ctypes import CFUNCTYPE, addressof, c_size_t, c_uint64, c_void_p, cast
from functools import lru_cache
from pathlib import Path
from types import CodeType
from typing import Any, NoReturn

import wasmtime
from wasmtime import _ffi

from journal.engine.runtime.call_gate import CallInterceptor, SuspendCall
from journal.engine.runtime.globals_tables import InstanceGlobals, InstanceTables
from journal.engine.wasm.state_exports import PREFIX, ExportedGlobal
from journal.errors import EngineError, EngineMismatch, PoolFull
from journal.wasi_abi import MemoryFault, WasiError


def _read_version() -> str:
    """Return the installed version; the name of the directory is faster than
    ``importlib.metadata``.
    """
    packages = Path(wasmtime.__file__).parent.parent
    for path in packages.glob("wasmtime-*.dist-info"):
        return path.name.removeprefix("wasmtime-").removesuffix(".dist-info")
    from importlib import metadata

    return metadata.version("wasmtime")


VERSION = _read_version()

_REQUIRED = (
    "wasmtime_linker_define_func_unchecked",
    "wasmtime_func_call_unchecked",
    "wasmtime_func_new_unchecked",
    "wasmtime_store_epoch_deadline_callback",
    "wasmtime_config_async_stack_size_set",
    "wasmtime_engine_increment_epoch",
    "wasmtime_trap_new",
    "wasmtime_error_new",
)
_missing = [name for name in _REQUIRED if not hasattr(_ffi, name)]
if _missing:
    raise EngineMismatch(f"wasmtime {VERSION} lacks {', '.join(_missing)}: install wasmtime 50")

_Callback = CFUNCTYPE(c_size_t, c_void_p, c_void_p, c_void_p, c_size_t)
_Define = CFUNCTYPE(
    c_void_p,
    c_void_p,
    ctypes.c_char_p,
    c_size_t,
    ctypes.c_char_p,
    c_size_t,
    c_void_p,
    c_void_p,
    c_void_p,
    c_void_p,
)
_define = _Define(cast(_ffi.dll.wasmtime_linker_define_func_unchecked, c_void_p).value or 0)
_CallUnchecked = CFUNCTYPE(c_void_p, c_void_p, c_void_p, c_void_p, c_size_t, c_void_p)
_call_unchecked = _CallUnchecked(cast(_ffi.dll.wasmtime_func_call_unchecked, c_void_p).value or 0)
_NewFunction = CFUNCTYPE(None, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p)
_new_function = _NewFunction(cast(_ffi.dll.wasmtime_func_new_unchecked, c_void_p).value or 0)
_EpochCallback = CFUNCTYPE(c_size_t, c_void_p, c_void_p, c_void_p, c_void_p)
_SetEpochCallback = CFUNCTYPE(None, c_void_p, c_void_p, c_void_p, c_void_p)
_set_epoch_callback = _SetEpochCallback(
    cast(_ffi.dll.wasmtime_store_epoch_deadline_callback, c_void_p).value or 0
)

_ErrorPointer = ctypes.POINTER(_ffi.wasmtime_error_t)
_TrapPointer = ctypes.POINTER(_ffi.wasm_trap_t)

# One raw argument is a cell of 16 bytes; unused bytes are undefined.
_CELL = {"i32": "I12x", "i64": "Q8x", "f32": "f12x", "f64": "d8x"}
_CELL_SIZE = 16
_VIEWS_MAX = 4096
assert struct.calcsize("<I12x") == struct.calcsize("<Q8x") == _CELL_SIZE

_ADDED_PREFIXES = (PREFIX, "asyncify_")
"""Prefixes of exports that an instrumentation adds, which the guest must not name."""

Handler = Callable[..., int | None]
Signature = tuple[tuple[str, ...], tuple[str, ...]]
NO_ARGUMENTS: Signature = ((), ())


class GuestMemory:
    """Linear memory of a guest with bounds checks. Pointers and sizes are in bytes."""

    def __init__(self, memory: Any = None, store: Any = None) -> None:
        self._memory, self._store = memory, store
        self.size = 0
        self.view = memoryview(b"")
        self.refresh()

    @property
    def address(self) -> int:
        """Address of the first byte in this process; it does not change when the memory grows."""
        return addressof(self._memory.data_ptr(self._store).contents)

    def grow(self, size: int) -> None:
        """Grow to ``size`` bytes, a multiple of 64 KiB; raises ``EngineError``."""
        pages, remainder = divmod(size - self.refresh(), 1 << 16)
        if pages < 0 or remainder:
            raise EngineError(f"memory of {self.size} bytes cannot be resized to {size} bytes")
        if pages:
            try:
                self._memory.grow(self._store, pages)
            except wasmtime.WasmtimeError as error:
                raise EngineError(f"memory cannot grow to {size} bytes: {error}") from error
            self.refresh()

    def refresh(self) -> int:
        """Renew the view after growth; return the size in bytes, 0 without a memory."""
        size = int(self._memory.data_len(self._store)) if self._memory is not None else 0
        if size != self.size:
            start = addressof(self._memory.data_ptr(self._store).contents)
            self.view = memoryview((ctypes.c_ubyte * size).from_address(start)).cast("B")
            self.size = size
        return size

    def check(self, pointer: int, size: int) -> None:
        """Raise ``MemoryFault`` unless ``size`` bytes at ``pointer`` exist, or ``size`` is 0."""
        if size and pointer + size > self.size and pointer + size > self.refresh():
            raise MemoryFault(f"pointer {pointer:#x} and size {size} lead out of {self.size} bytes")

    def read(self, pointer: int, size: int) -> bytes:
        """Return a copy of ``size`` bytes."""
        if pointer + size > self.size:
            self.check(pointer, size)
        return self.view[pointer : pointer + size].tobytes()

    def write(self, pointer: int, data: bytes | bytearray | memoryview) -> None:
        """Write ``data`` at ``pointer``."""
        end = pointer + len(data)
        if end > self.size:
            self.check(pointer, len(data))
        self.view[pointer:end] = data

    def unpack(self, layout: struct.Struct, pointer: int) -> tuple[Any, ...]:
        """Return the values of ``layout`` at ``pointer``."""
        if pointer + layout.size > self.size:
            self.check(pointer, layout.size)
        return layout.unpack_from(self.view, pointer)

    def unpack_many(
        self, layout: struct.Struct, pointer: int, count: int
    ) -> Iterator[tuple[Any, ...]]:
        """Return the values of ``count`` consecutive structures at ``pointer``."""
        end = pointer + layout.size * count
        if end > self.size:
            self.check(pointer, layout.size * count)
        return layout.iter_unpack(self.view[pointer:end])

    def write_u32(self, pointer: int, value: int) -> None:
        """Write a 32-bit number at ``pointer``."""
        if pointer + 4 > self.size:
            self.check(pointer, 4)
        _U32.pack_into(self.view, pointer, value)

    def write_u64(self, pointer: int, value: int) -> None:
        """Write a 64-bit number at ``pointer``."""
        if pointer + 8 > self.size:
            self.check(pointer, 8)
        _U64.pack_into(self.view, pointer, value)


_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


class UnknownImport(MemoryFault):
    """A call of an import that the host does not define."""


class GuestInterrupted(Exception):
    """An interruption of the guest by its host; ``backtrace`` is the guest's backtrace."""

    def __init__(self, backtrace: str) -> None:
        super().__init__(backtrace)
        self.backtrace = backtrace


class GuestTrapped(Exception):
    """A trap of the guest: a short ``kind``, and a ``backtrace`` with the innermost frame first."""

    def __init__(self, kind: str, backtrace: str) -> None:
        super().__init__(kind, backtrace)
        self.kind = kind
        self.backtrace = backtrace

    def __str__(self) -> str:
        return self.kind


# Source of a raw callback, generated for its number of arguments, because passing a list costs a
# quarter of the whole call. An exception that leaves the callback is a segmentation fault.
_CALLBACK_SOURCE = """
def call(_env, _caller, address, _count):
    try:
        view = {view}
        try:
            {unpack}
            {count}
            view[0] = handler({arguments}) or 0
        except WasiError as error:
            view[0] = error.errno
        {otherwise}
    except BaseException as error:
        instance._pending_error = error
        return trap()
    return 0
"""

# Additional source if the guest can be suspended. A call with an unwound stack is made again: it
# counts once, and its first result is ignored.
_INTERCEPT_SOURCE = """interceptor.calls += 1
            if intercepted_call.is_active and interceptor.on_call(name, ({arguments})):
                interceptor.calls -= 1
                return 0"""
_SUSPEND_SOURCE = """except SuspendCall:
            interceptor.calls -= 1
            interceptor.on_suspend(name)"""


@lru_cache(maxsize=64)
def _compile_callback(source: str) -> CodeType:
    """Return the code of a callback; each signature has one, which all instances share."""
    return compile(source, "<callback>", "exec")


class _ArgumentViews(dict[int, memoryview]):
    """Views of raw call arguments as 64-bit numbers, by address; created at first use.

    A guest calls its host from few stack depths, so the same addresses recur.
    """

    def __init__(self, cells: int) -> None:
        super().__init__()
        self._array = ctypes.c_uint64 * (2 * cells)

    def __missing__(self, address: int) -> memoryview:
        if len(self) >= _VIEWS_MAX:
            self.clear()
        view = self[address] = memoryview(self._array.from_address(address)).cast("B").cast("Q")
        return view


class Instance:
    """One guest on one store: its imports, its memory and its exported functions.

    An exception of a handler or of ``on_tick`` ends the guest and is raised by :meth:`call`.
    """

    def __init__(
        self, engine: Any, on_tick: Callable[[], None], interceptor: CallInterceptor | None = None
    ) -> None:
        self._engine = engine
        self._interceptor = interceptor
        self._linker = wasmtime.Linker(engine)
        self._references: list[Any] = []
        self._pending_error: BaseException | None = None
        self._on_tick = on_tick
        self._epoch_callback = _EpochCallback(self._tick)
        self._limits: dict[str, int] = {}
        self._trap = c_void_p()
        self._calls: dict[str, Callable[..., None]] = {}
        self._exports: Any = None
        self._open_store()

    def _open_store(self) -> None:
        self._store = wasmtime.Store(self._engine)
        self._context = cast(self._store._context(), c_void_p).value
        self._store.set_limits(**self._limits)
        _set_epoch_callback(
            cast(self._store.ptr(), c_void_p), cast(self._epoch_callback, c_void_p), None, None
        )
        self._store.set_epoch_deadline(1)

    def limit(self, *, memory_size_max: int, memories: int, table_elements: int) -> None:
        """Limit growth, so that it fails at the same point on every machine."""
        self._limits = {
            "memory_size": memory_size_max,
            "memories": memories,
            "table_elements": table_elements,
        }
        self._store.set_limits(**self._limits)

    def define(self, import_: Any, signature: Signature, handler: Handler, state: object) -> None:
        """Define an import as ``handler(state, *arguments)``.

        The handler's result is the function's 32-bit result; a raised ``WasiError`` becomes its
        errno. Integers arrive unsigned. A handler that always raises may have ``NO_ARGUMENTS`` as
        its signature, whatever the type of the import is.
        """
        module, name, type_ = import_.module, import_.name, import_.type
        callback = _Callback(self._make_callback(name, handler, state, signature))
        self._references.append((callback, type_))
        encoded = module.encode(), name.encode()
        error = _define(
            cast(self._linker.ptr(), c_void_p),
            encoded[0],
            len(encoded[0]),
            encoded[1],
            len(encoded[1]),
            cast(type_.ptr(), c_void_p),
            cast(callback, c_void_p),
            None,
            None,
        )
        assert not error, f"{module}.{name} is defined twice"

    def instantiate(self, module: Any) -> GuestMemory:
        """Create the instance, run its start function if there is one, and return its exported
        memory.
        """
        with self._translate_errors():
            instance = self._linker.instantiate(self._store, module)
        self._exports = instance.exports(self._store)
        self._calls = {}
        return self.get_memory("memory")

    def close(self) -> None:
        """Free the memories of the guest. Nothing else may be called except ``reinstantiate``."""
        self._store.close()

    def reinstantiate(self, module: Any) -> GuestMemory:
        """Free the memories of the guest, create it anew with the same imports, as in
        ``instantiate``, and return its memory.
        """
        self.close()
        self._open_store()
        return self.instantiate(module)

    def get_memory(self, name: str) -> GuestMemory:
        """Return the memory with this export name, or an empty memory."""
        memory = self._exports.get(name)
        return GuestMemory(memory if isinstance(memory, wasmtime.Memory) else None, self._store)

    def get_globals(self, names: Sequence[ExportedGlobal]) -> InstanceGlobals:
        """Return the globals with these export names."""
        return InstanceGlobals(self._store, self._exports, names)

    def get_tables(self, tables: Sequence[str], functions: Sequence[str]) -> InstanceTables:
        """Return the tables with these export names, and the functions that their elements may
        refer to.
        """
        return InstanceTables(self._store, self._exports, tables, functions)

    def put_in_table(self, name: str, function: Callable[[], None]) -> None:
        """Set the first element of a table to a function without parameters and results."""

        def call(_env: int, _caller: int, _address: int, _count: int) -> int:
            try:
                function()
            except BaseException as error:
                self._pending_error = error
                return _make_trap()
            return 0

        type_, callback = wasmtime.FuncType([], []), _Callback(call)
        self._references.append((callback, type_))
        raw = _ffi.wasmtime_func_t()
        _new_function(
            self._context,
            cast(type_.ptr(), c_void_p),
            cast(callback, c_void_p),
            None,
            None,
            addressof(raw),
        )
        self._exports[name].set(self._store, 0, wasmtime.Func._from_raw(raw))

    def set_flag(self, name: str, value: int) -> None:
        """Set a 32-bit global. Call only from the guest's thread."""
        self._exports[name].set_value(self._store, value)

    def call(self, name: str, *arguments: int) -> None:
        """Call an exported function without results, and return when the function returns.

        Raises the exception of a handler, ``GuestTrapped``, or ``EngineError`` if the machine lacks
        a resource that the guest may use; the guest can be resumed later.
        """
        call = self._calls.get(name)
        if call is None:
            call = self._calls[name] = self._make_call(name, len(arguments))
        call(*arguments)

    def _make_call(self, name: str, count: int) -> Callable[..., None]:
        """Return the raw call of an exported function, which costs 1 µs instead of 10 to 30 µs."""
        function, cells = self._exports[name]._func, (c_uint64 * (2 * max(count, 1)))()
        context, trap = self._context, self._trap
        addresses = addressof(function), addressof(cells), addressof(trap)

        def call(*arguments: int) -> None:
            for index, argument in enumerate(arguments):
                cells[2 * index] = argument
            self._pending_error = None
            error = _call_unchecked(context, addresses[0], addresses[1], count, addresses[2])
            if error:
                self._raise(wasmtime.WasmtimeError._from_ptr(cast(error, _ErrorPointer)))
            if trap.value:
                pointer, trap.value = cast(trap, _TrapPointer), None
                self._raise(wasmtime.Trap._from_ptr(pointer))

        self._references.append((function, cells))
        return call

    def has_signal_handler(self, name: str) -> bool:
        """Return whether the module itself exports a function that can handle signals: ``(i32)``
        without a result.
        """
        if name.startswith(_ADDED_PREFIXES):
            return False
        export = self._exports.get(name)
        return isinstance(export, wasmtime.Func) and read_signature(export.type(self._store)) == (
            ("i32",),
            (),
        )

    def increment_epoch(self) -> None:
        """Make ``on_tick`` run in the guest's thread at its next safe point. Thread-safe."""
        self._engine.increment_epoch()

    def _make_callback(
        self, name: str, handler: Handler, state: object, signature: Signature
    ) -> Callable[..., int]:
        parameters, results = signature
        interceptor = self._interceptor
        scope: dict[str, Any] = {
            "handler": handler,
            "state": state,
            "unpack": struct.Struct("<" + "".join(_CELL[kind] for kind in parameters)).unpack_from,
            "views": _ArgumentViews(max(len(parameters), len(results))),
            "instance": self,
            "trap": _make_trap,
            "WasiError": WasiError,
            "SuspendCall": SuspendCall,
            "name": name,
            "interceptor": interceptor,
            "intercepted_call": interceptor.find_call(name) if interceptor is not None else None,
        }
        names = ", ".join(f"a{index}" for index in range(len(parameters)))
        unpack = f"{names}, = unpack(view)" if names else "pass"
        view = "views[address]" if parameters or results else "[0]"
        source = _CALLBACK_SOURCE.format(
            view=view,
            unpack=unpack,
            arguments=f"state, {names}",
            count=""
            if interceptor is None
            else _INTERCEPT_SOURCE.format(arguments=names and f"{names},"),
            otherwise="" if interceptor is None else _SUSPEND_SOURCE,
        )
        exec(
            _compile_callback(source), scope
        )  # The source is a constant; no name comes from a module.
        callback: Callable[..., int] = scope["call"]
        return callback

    def _tick(self, _context: int, _data: int, delta: int, _kind: int) -> int:
        try:
            self._on_tick()
        except BaseException as error:
            self._pending_error = error
            return cast(_ffi.wasmtime_error_new(b"interrupted"), c_void_p).value or 0
        c_uint64.from_address(delta).value = 1
        return 0

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Translate wasmtime's errors as ``_raise`` does."""
        self._pending_error = None
        try:
            yield
        except (wasmtime.Trap, wasmtime.WasmtimeError) as error:
            self._raise(error)

    def _raise(self, error: Exception) -> NoReturn:
        """Raise the handler's exception, ``GuestTrapped`` or ``EngineError`` for an error of
        wasmtime.
        """
        if isinstance(error, wasmtime.Trap):
            trap = find_trap(error)
            raise (make_error(str(error)) if trap is None else GuestTrapped(*trap)) from None
        pending, self._pending_error = self._pending_error, None
        backtrace = _extract_guest_frames(str(error))
        if pending is None:
            raise make_error(str(error)) from None
        if isinstance(pending, MemoryFault):
            # The text becomes the kind of ProcessTrap. It is part of the format: a replay
            # compares the kind with the recorded kind.
            raise GuestTrapped(str(pending), backtrace) from None
        if not isinstance(pending.__cause__, GuestInterrupted):  # That of a nested call is longer.
            pending.__cause__ = GuestInterrupted(backtrace)
        raise pending from pending.__cause__


def set_async_stack_size(config: Any, size: int) -> None:
    """Set the async stack size, which must exceed ``max_wasm_stack``."""
    _ffi.wasmtime_config_async_stack_size_set(config.ptr(), size)


def _make_trap() -> int:
    return cast(_ffi.wasmtime_trap_new(b"host", 4), c_void_p).value or 0


def read_signature(type_: Any) -> Signature:
    """Return parameters and results of a function type, as names such as ``i32``.

    A ``v128`` among them aborts the process; see :mod:`journal.engine.wasm.function_types`.
    """
    return tuple(str(p) for p in type_.params), tuple(str(r) for r in type_.results)


def find_trap(error: Exception) -> tuple[str, str] | None:
    """Return kind and backtrace of a trap of the guest, or None for another error."""
    if not isinstance(error, wasmtime.Trap) or error.trap_code is None:
        return None
    kind = error.trap_code.name.lower().replace("_", " ")
    return kind, _extract_guest_frames(str(error))


def get_guest_backtrace(error: BaseException) -> str:
    """Return the guest's backtrace at ``error``; empty if unknown."""
    cause = error.__cause__
    return cause.backtrace if isinstance(cause, GuestInterrupted) else ""


_FULL = re.compile(r"maximum concurrent limit of (\d+) for ([\w ]+) reached")
_KNOBS = {
    "core instances": "total_core_instances",
    "tables": "total_tables",
    "GC heaps": "total_gc_heaps",
    "memory stripe 0": "total_memories",
}


def make_error(message: str) -> EngineError:
    """Return the exception for an error of wasmtime that no guest has caused."""
    full = _FULL.search(message)
    if full is not None:
        return PoolFull(f"the pool is full: {_KNOBS.get(full[2], full[2])}={full[1]} are in use")
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return EngineError(f"wasmtime could not run the guest: {lines[-1] if lines else 'unknown'}")


def _extract_guest_frames(message: str) -> str:
    """Return the lines of ``message`` that name functions of the guest."""
    lines = [line.strip() for line in message.splitlines()]
    return "\n".join(line for line in lines if line[:1].isdigit() and ": " in line and "!" in line)


__all__ = [
    "NO_ARGUMENTS",
    "VERSION",
    "GuestInterrupted",
    "GuestMemory",
    "GuestTrapped",
    "Handler",
    "Instance",
    "Signature",
    "UnknownImport",
    "find_trap",
    "get_guest_backtrace",
    "make_error",
    "read_signature",
    "set_async_stack_size",
]
