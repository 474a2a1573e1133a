"""The one file that touches wasmtime's C layer and its private names.

Host functions are defined through ``wasmtime_linker_define_func_unchecked`` with raw addresses: a
call costs about 0.5 µs where the comfortable API costs 11. The price is paid here, once:
an exception that left a raw callback would be a segmentation fault, so each callback keeps it in
the :class:`Instance` and returns a trap in its place; ctypes objects that C holds are kept alive
with the linker; a view of memory is renewed when the memory has grown.
"""

import ctypes
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ctypes import CFUNCTYPE, addressof, c_size_t, c_uint64, c_void_p, cast
from pathlib import Path
from typing import Any

import wasmtime
from wasmtime import _ffi

from journal.engine.runtime.call_gate import CallInterceptor, SuspendCall
from journal.engine.runtime.globals_tables import InstanceGlobals, InstanceTables
from journal.engine.wasi_abi import MemoryFault, WasiError
from journal.engine.wasm.state_exports import ExportedGlobal
from journal.errors import EngineError, EngineMismatch


def _read_version() -> str:
    """The installed version; a directory's name says it sooner than ``importlib.metadata``."""
    packages = Path(wasmtime.__file__).parent.parent
    for found in packages.glob("wasmtime-*.dist-info"):
        return found.name.removeprefix("wasmtime-").removesuffix(".dist-info")
    from importlib import metadata

    return metadata.version("wasmtime")


VERSION = _read_version()

_NEEDED = (
    "wasmtime_linker_define_func_unchecked",
    "wasmtime_store_epoch_deadline_callback",
    "wasmtime_config_async_stack_size_set",
    "wasmtime_engine_increment_epoch",
    "wasmtime_trap_new",
    "wasmtime_error_new",
)
_missing = [name for name in _NEEDED if not hasattr(_ffi, name)]
if _missing:
    raise EngineMismatch(f"wasmtime {VERSION} has no {', '.join(_missing)}: install wasmtime 50")

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
_EpochCallback = CFUNCTYPE(c_size_t, c_void_p, c_void_p, c_void_p, c_void_p)
_SetEpochCallback = CFUNCTYPE(None, c_void_p, c_void_p, c_void_p, c_void_p)
_set_epoch_callback = _SetEpochCallback(
    cast(_ffi.dll.wasmtime_store_epoch_deadline_callback, c_void_p).value or 0
)

# One cell of raw arguments is 16 bytes; what is not used of it may hold anything.
_CELL = {"i32": "I12x", "i64": "Q8x", "f32": "f12x", "f64": "d8x"}
_CELL_SIZE = 16
_VIEWS_MAX = 4096
assert struct.calcsize("<I12x") == struct.calcsize("<Q8x") == _CELL_SIZE

Handler = Callable[..., int | None]
Signature = tuple[tuple[str, ...], tuple[str, ...]]


class GuestMemory:
    """The guest's linear memory, checked at its bounds. Pointers and sizes are in bytes."""

    def __init__(self, memory: Any = None, store: Any = None) -> None:
        self._memory, self._store = memory, store
        self.size = 0
        self.view = memoryview(b"")
        self.refresh()

    @property
    def address(self) -> int:
        """Where its first byte stands in this process; it grows where it stands."""
        return addressof(self._memory.data_ptr(self._store).contents)

    def grow(self, size: int) -> None:
        """Let it have ``size`` bytes, which are whole pages of 64 KiB; raises ``EngineError``."""
        more, rest = divmod(size - self.refresh(), 1 << 16)
        if more < 0 or rest:
            raise EngineError(f"a memory of {self.size} bytes cannot have {size}")
        if more:
            try:
                self._memory.grow(self._store, more)
            except wasmtime.WasmtimeError as error:
                raise EngineError(f"a memory cannot have {size} bytes: {error}") from error
            self.refresh()

    def refresh(self) -> int:
        """Take a new view after growth; the size in bytes, 0 where there is no memory."""
        size = int(self._memory.data_len(self._store)) if self._memory is not None else 0
        if size != self.size:
            start = addressof(self._memory.data_ptr(self._store).contents)
            self.view = memoryview((ctypes.c_ubyte * size).from_address(start)).cast("B")
            self.size = size
        return size

    def check(self, pointer: int, size: int) -> None:
        """Raise ``MemoryFault`` unless ``size`` bytes lie at ``pointer``; none may lie anywhere."""
        if size and pointer + size > self.size and pointer + size > self.refresh():
            raise MemoryFault(f"pointer {pointer:#x} and size {size} lead out of {self.size} bytes")

    def read(self, pointer: int, size: int) -> bytes:
        """A copy of ``size`` bytes."""
        if pointer + size > self.size:
            self.check(pointer, size)
        return self.view[pointer : pointer + size].tobytes()

    def write(self, pointer: int, data: bytes | bytearray | memoryview) -> None:
        """Put ``data`` at ``pointer``."""
        end = pointer + len(data)
        if end > self.size:
            self.check(pointer, len(data))
        self.view[pointer:end] = data

    def unpack(self, layout: struct.Struct, pointer: int) -> tuple[Any, ...]:
        """The values of ``layout`` at ``pointer``."""
        if pointer + layout.size > self.size:
            self.check(pointer, layout.size)
        return layout.unpack_from(self.view, pointer)

    def write_u32(self, pointer: int, value: int) -> None:
        """Put a 32-bit number at ``pointer``."""
        if pointer + 4 > self.size:
            self.check(pointer, 4)
        _U32.pack_into(self.view, pointer, value)

    def write_u64(self, pointer: int, value: int) -> None:
        """Put a 64-bit number at ``pointer``."""
        if pointer + 8 > self.size:
            self.check(pointer, 8)
        _U64.pack_into(self.view, pointer, value)


_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


class UnknownImport(MemoryFault):
    """The guest called an import that nobody gave it."""


class GuestInterrupted(Exception):
    """The guest stopped because its host wanted to; ``backtrace`` is where."""

    def __init__(self, backtrace: str) -> None:
        super().__init__(backtrace)
        self.backtrace = backtrace


class GuestTrapped(Exception):
    """The guest trapped: ``kind`` is a short name, ``backtrace`` where, innermost first."""

    def __init__(self, kind: str, backtrace: str) -> None:
        super().__init__(kind)
        self.kind = kind
        self.backtrace = backtrace


# What a raw callback does, written out for its number of arguments: passing them on as a list costs
# a quarter of the whole call. Nothing may leave it: an exception here is a segmentation fault.
_CALLBACK = """
def call(_env, _caller, address, _count):
    try:
        view = {view}
        try:
            {take}
            {count}
            view[0] = handler({arguments}) or 0
        except WasiError as failure:
            view[0] = failure.errno
        {otherwise}
    except BaseException as error:
        instance._raised = error
        return trap()
    return 0
"""

# The same where the guest can be held up. A call whose stack is unwound is made again: it counts
# once, and what it gives now is not looked at.
_INTERCEPTED = """interceptor.calls += 1
            if intercepted.is_active and interceptor.on_call(name, ({arguments})):
                interceptor.calls -= 1
                return 0"""
_SUSPENDED = """except SuspendCall:
            interceptor.calls -= 1
            interceptor.on_suspend(name)"""


class _ArgumentViews(dict[int, memoryview]):
    """The raw arguments of a call by their address, seen as 64-bit numbers, made when first seen.

    A guest's calls come from few depths of its stack, so the same addresses come again.
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
    """One guest on one store: its imports, its memory, and the way in.

    What a handler or ``on_tick`` raises ends the guest and comes out of :meth:`call`.
    """

    def __init__(
        self, engine: Any, on_tick: Callable[[], None], interceptor: CallInterceptor | None = None
    ) -> None:
        self._engine = engine
        self._interceptor = interceptor
        self._store = wasmtime.Store(engine)
        self._linker = wasmtime.Linker(engine)
        self._alive: list[Any] = []
        self._raised: BaseException | None = None
        self._on_tick = on_tick
        self._exports: Any = None
        self._watch_epochs()

    def limit(self, *, memory_size_max: int, memories: int, table_elements: int) -> None:
        """Let growth fail above these; the same everywhere, whatever the machine has."""
        self._store.set_limits(
            memory_size=memory_size_max, memories=memories, table_elements=table_elements
        )

    def define(self, module: str, name: str, type_: Any, handler: Handler, state: object) -> None:
        """Let the import ``module.name`` call ``handler(state, *arguments)``.

        The handler's result is the function's 32-bit result; a ``WasiError`` it raises becomes its
        errno. Integers arrive unsigned.
        """
        callback = _Callback(self._callback(name, handler, state, read_signature(type_)))
        self._alive.append((callback, type_))
        encoded = module.encode(), name.encode()
        failed = _define(
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
        assert not failed, f"{module}.{name} is defined twice"

    def instantiate(self, module: Any) -> GuestMemory:
        """Make the instance; its start function, if it has one, runs. The memory it exports."""
        with self._translated():
            instance = self._linker.instantiate(self._store, module)
        self._exports = instance.exports(self._store)
        return self.memory("memory")

    def memory(self, name: str) -> GuestMemory:
        """A memory by the name of its export; an empty one where it has none."""
        memory = self._exports.get(name)
        return GuestMemory(memory if isinstance(memory, wasmtime.Memory) else None, self._store)

    def globals(self, names: Sequence[ExportedGlobal]) -> InstanceGlobals:
        """The globals of these names."""
        return InstanceGlobals(self._store, self._exports, names)

    def tables(self, tables: Sequence[str], functions: Sequence[str]) -> InstanceTables:
        """The tables of these names, and the functions that may be in them."""
        return InstanceTables(self._store, self._exports, tables, functions)

    def put_in_table(self, name: str, function: Callable[[], None]) -> None:
        """Let the first element of a table be a function without arguments and results."""
        type_ = wasmtime.FuncType([], [])
        self._exports[name].set(self._store, 0, wasmtime.Func(self._store, type_, function))

    def set_flag(self, name: str, value: int) -> None:
        """Give a global that is a 32-bit number a value. In the guest's thread."""
        self._exports[name].set_value(self._store, value)

    def call(self, name: str, *arguments: int) -> None:
        """Call an exported function without results; returns when it returns.

        Raises the exception of a handler, ``GuestTrapped``, or ``EngineError`` if the
        machine lacks a resource that the guest may use; the guest can continue another day.
        """
        with self._translated():
            self._exports[name](self._store, *arguments)

    def increment_epoch(self) -> None:
        """Let ``on_tick`` run in the guest's thread at its next safe point. From any thread."""
        self._engine.increment_epoch()

    def _callback(
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
            "intercepted": interceptor.find_call(name) if interceptor is not None else None,
        }
        names = ", ".join(f"a{index}" for index in range(len(parameters)))
        take = f"{names}, = unpack(view)" if names else "pass"
        view = "views[address]" if parameters or results else "[0]"
        source = _CALLBACK.format(
            view=view,
            take=take,
            arguments=f"state, {names}",
            count=""
            if interceptor is None
            else _INTERCEPTED.format(arguments=names and f"{names},"),
            otherwise="" if interceptor is None else _SUSPENDED,
        )
        exec(source, scope)  # our own text, and no name in it comes from a module
        callback: Callable[..., int] = scope["call"]
        return callback

    def _watch_epochs(self) -> None:
        def tick(_context: int, _data: int, delta: int, _kind: int) -> int:
            try:
                self._on_tick()
            except BaseException as error:
                self._raised = error
                return cast(_ffi.wasmtime_error_new(b"interrupted"), c_void_p).value or 0
            c_uint64.from_address(delta).value = 1
            return 0

        callback = _EpochCallback(tick)
        self._alive.append(callback)
        _set_epoch_callback(cast(self._store.ptr(), c_void_p), cast(callback, c_void_p), None, None)
        self._store.set_epoch_deadline(1)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn wasmtime's errors into what was raised, ``GuestTrapped``, or ``EngineError``."""
        self._raised = None
        try:
            yield
        except wasmtime.Trap as trap:
            if trap.trap_code is None:
                raise _engine_error(str(trap)) from None
            kind = trap.trap_code.name.lower().replace("_", " ")
            raise GuestTrapped(kind, _guest_frames(str(trap))) from None
        except wasmtime.WasmtimeError as error:
            raised, self._raised = self._raised, None
            backtrace = _guest_frames(str(error))
            if raised is None:
                raise _engine_error(str(error)) from None
            if isinstance(raised, MemoryFault):
                raise GuestTrapped(str(raised), backtrace) from None
            raised.__cause__ = GuestInterrupted(backtrace)
            raise raised from raised.__cause__


def set_async_stack_size(config: Any, size: int) -> None:
    """Set what wasmtime demands to be larger than ``max_wasm_stack``."""
    _ffi.wasmtime_config_async_stack_size_set(config.ptr(), size)


def _make_trap() -> int:
    return cast(_ffi.wasmtime_trap_new(b"host", 4), c_void_p).value or 0


def read_signature(type_: Any) -> Signature:
    """The parameters and the results of a function type, as names such as ``i32``."""
    return tuple(str(p) for p in type_.params), tuple(str(r) for r in type_.results)


def guest_backtrace(error: BaseException) -> str:
    """Where in the guest ``error`` was raised; empty where that is not known."""
    cause = error.__cause__
    return cause.backtrace if isinstance(cause, GuestInterrupted) else ""


def _engine_error(message: str) -> EngineError:
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return EngineError(f"wasmtime could not run the guest: {lines[-1] if lines else 'unknown'}")


def _guest_frames(message: str) -> str:
    """The lines of ``message`` that name functions of the guest."""
    lines = [line.strip() for line in message.splitlines()]
    return "\n".join(line for line in lines if line[:1].isdigit() and ": " in line and "!" in line)


__all__ = [
    "VERSION",
    "GuestInterrupted",
    "GuestMemory",
    "GuestTrapped",
    "Handler",
    "Instance",
    "Signature",
    "UnknownImport",
    "guest_backtrace",
    "read_signature",
    "set_async_stack_size",
]
