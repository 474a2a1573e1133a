"""A guest's module: its bytes, their hash, and its compiled form, cached."""

import hashlib
import mmap
import os
import pwd
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import wasmtime
import xxhash

from journal.engine.configuration import (
    MEMORY_SIZE_MAX,
    PAGE_SIZE,
    TABLE_ELEMENTS_MAX,
    Configuration,
    UnknownImports,
)
from journal.engine.runtime import bindings as seam
from journal.engine.wasi.functions import IMPORTS
from journal.errors import JournalError, ModuleRefused
from journal.fs import atomic_file as durable

MODULE_SIZE_MAX = 1 << 30

#: What a program exports to be run.
START_FUNCTION = "_start"


class GuestModule:
    """A module as it was given; ``path`` is where it was read, empty for bytes.

    ``hash`` is the SHA-256 of the bytes. Where that is known before, they are read when they are
    asked for.
    """

    __slots__ = ("_data", "_read", "hash", "path")

    def __init__(self, data: bytes, path: str = "") -> None:
        self.hash = hashlib.sha256(data).digest()
        self.path = path
        self._data: bytes | None = data
        self._read: Callable[[], bytes] = lambda: data

    @classmethod
    def later(cls, hash_: bytes, path: str, read: Callable[[], bytes]) -> Self:
        """The module of this hash, as far as anyone can tell who does not ask for its bytes."""
        module = cls.__new__(cls)
        module.hash, module.path = hash_, path
        module._data, module._read = None, read
        return module

    @property
    def data(self) -> bytes:
        """The bytes; raises what reading them raises."""
        if self._data is None:
            self._data = self._read()
        return self._data


def load_module(module: bytes | str | os.PathLike[str]) -> GuestModule:
    """A module from bytes or a file; raises ``ModuleRefused``."""
    if isinstance(module, bytes):
        return GuestModule(module)
    path = Path(module)
    try:
        size = path.stat().st_size
        if size > MODULE_SIZE_MAX:
            raise ModuleRefused(f"{path} has {size} bytes; a module has {MODULE_SIZE_MAX} at most")
        return GuestModule(path.read_bytes(), str(path.resolve()))
    except OSError as error:
        raise ModuleRefused(f"{path} cannot be read: {error.strerror}") from error


def make_engine(configuration: Configuration) -> Any:
    """A wasmtime engine whose runs are repeatable.

    Whatever the specification leaves open is fixed here: the bits of a NaN, relaxed SIMD, and how
    deep calls may go.
    """
    return wasmtime.Engine(_make_config(configuration))


def _make_config(configuration: Configuration) -> Any:
    config = wasmtime.Config()
    # An invalid value aborts the process: the stack of async calls must be larger than ours.
    seam.set_async_stack_size(config, configuration.native_stack_size + (1 << 20))
    for name, value in _wasmtime_settings(configuration).items():
        setattr(config, name, value)
    return config


def _wasmtime_settings(configuration: Configuration) -> dict[str, int | bool]:
    """Wasmtime's own settings, by its names: they decide what compiled code can be used again."""
    return {
        "max_wasm_stack": configuration.native_stack_size,
        "epoch_interruption": True,
        "cranelift_nan_canonicalization": True,
        "wasm_relaxed_simd_deterministic": True,
        # The views of a guest's memory rest on this: it grows where it stands.
        "memory_reservation": MEMORY_SIZE_MAX,
        "memory_may_move": False,
        "wasm_threads": False,
        "wasm_exceptions": True,
        "wasm_tail_call": True,
        "wasm_multi_memory": True,
    }


def compile_module(
    engine: Any, module: GuestModule, configuration: Configuration, cache: Path | None
) -> Any:
    """The compiled module, from the cache if it is there; raises ``ModuleRefused``."""
    if cache is None:
        return _compile(engine, module)
    key = _cache_key(module, configuration)
    found = _load_cached(engine, cache, key)
    if found is not None:
        return found
    result = _compile(engine, module)
    code = bytes(result.serialize())
    with suppress(OSError, JournalError):  # a cache that cannot be written costs time, nothing else
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        durable.replace(cache / _cache_name(key, code), code)
    return result


def check_program(module: Any, configuration: Configuration) -> None:
    """Raise ``ModuleRefused`` for what cannot be run as a program within the limits."""
    _select_handlers(module, configuration)
    exports = {export.name: export.type for export in module.exports}
    start = exports.get(START_FUNCTION)
    if start is None:
        raise ModuleRefused("the module has no _start: it is a library, not a program")
    if not isinstance(start, wasmtime.FuncType) or start.params or start.results:
        raise ModuleRefused("the module's _start is not a function without arguments and results")
    for name, type_ in exports.items():
        if isinstance(type_, wasmtime.MemoryType):
            size, limit = type_.limits.min * PAGE_SIZE, configuration.memory_size_max
            if size > limit:
                raise ModuleRefused(f"{name} begins with {size} bytes, and it may have {limit}")
        if isinstance(type_, wasmtime.TableType) and type_.limits.min > TABLE_ELEMENTS_MAX:
            raise ModuleRefused(
                f"{name} begins with {type_.limits.min} elements, and it may have "
                f"{TABLE_ELEMENTS_MAX}"
            )


def _compile(engine: Any, module: GuestModule) -> Any:
    try:
        return wasmtime.Module(engine, module.data)
    except wasmtime.WasmtimeError as error:
        reason = str(error).strip().splitlines()
        raise ModuleRefused(f"the module is not valid: {'; '.join(reason[:3])}") from None


def _cache_key(module: GuestModule, configuration: Configuration) -> str:
    """A name that only the module, the engine and the configuration decide."""
    parts = (module.hash.hex(), seam.VERSION, repr(_wasmtime_settings(configuration)))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _cache_name(key: str, code: bytes | mmap.mmap) -> str:
    # Compiled code is trusted when it runs: its name has its hash, so that a torn or rotten file
    # is never run.
    return f"{key}-{xxhash.xxh3_128_hexdigest(code)}.cwasm"


def _load_cached(engine: Any, cache: Path, key: str) -> Any:
    with suppress(OSError):
        found = cache.glob(f"{key}-*.cwasm") if is_private(cache) else ()
        for path in found:
            # Code for a processor of another kind may stand beside ours: it is refused, not run.
            with suppress(wasmtime.WasmtimeError):
                if is_private(path) and path.name == _cache_name_of(key, path):
                    return wasmtime.Module.deserialize_file(engine, str(path))
    return None


def _cache_name_of(key: str, path: Path) -> str:
    """What a file with these bytes is called; they are not copied for that."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if not size:
            return ""
        with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as code:
            return _cache_name(key, code)


def is_private(path: Path) -> bool:
    """Whether only this user can write ``path``."""
    found = path.stat()
    return found.st_uid == os.geteuid() and not stat.S_IMODE(found.st_mode) & 0o022


def default_cache() -> Path:
    """Where compiled modules are kept when nobody says where."""
    return Path(pwd.getpwuid(os.geteuid()).pw_dir) / ".cache" / "wasm-journal" / "modules"


def define_imports(
    instance: seam.Instance, module: Any, configuration: Configuration, state: object
) -> None:
    """Give the instance what the module imports; raises ``ModuleRefused``, naming what is not."""
    for wanted, handler in _select_handlers(module, configuration):
        instance.define(wanted.module, wanted.name, wanted.type, handler, state)


def _select_handlers(module: Any, configuration: Configuration) -> list[tuple[Any, seam.Handler]]:
    """Each import of the module, once, with the function that serves it."""
    found: dict[str, tuple[Any, seam.Handler]] = {}
    unknown = []
    for wanted in module.imports:
        name = f"{wanted.module}.{wanted.name}"
        known = IMPORTS.get(wanted.module, {}).get(wanted.name or "")
        is_function = isinstance(wanted.type, wasmtime.FuncType)
        if known and is_function and seam.read_signature(wanted.type) == known[0]:
            found[name] = (wanted, known[1])
        elif is_function and configuration.unknown_imports is UnknownImports.TRAP:
            found[name] = (wanted, _make_trap(name))
        else:
            unknown.append(name)
    if unknown:
        names = ", ".join(sorted(set(unknown)))
        raise ModuleRefused(f"the module imports what is not there: {names}")
    return list(found.values())


def _make_trap(name: str) -> seam.Handler:
    def trap(*_: object) -> int:
        raise seam.UnknownImport(f"call of the unknown import {name}")

    return trap
