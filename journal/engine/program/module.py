"""A guest's module: its bytes, their hash, and its compiled code with a cache."""

import hashlib
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import wasmtime

from journal._arguments import quote, to_line
from journal.engine.configuration import (
    PAGE_SIZE,
    Configuration,
    UnknownImports,
)
from journal.engine.program.abandonable import call_abandonable
from journal.engine.program.engine import EngineSettings, make_engine
from journal.engine.program.refusal import check_format, describe_invalid, describe_refused, is_text
from journal.engine.program.user_cache import UserCache
from journal.engine.runtime import bindings
from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.functions import IMPORTS, signals, wasix
from journal.engine.wasi.functions.unsupported import find_reason
from journal.engine.wasm.binary import MAGIC, iter_sections
from journal.engine.wasm.function_types import find_vector_imports
from journal.engine.wasm.module_info import read_module_info
from journal.errors import ModuleMismatch, ModuleRefused
from journal.fs import file_kind
from journal.rewrite.progress import ProgressCallback, ignore_progress, report_phase

MODULE_SIZE_MAX = 1 << 30

COMPILE_PHASE = "compiling the module"
"""Name of the phase in which wasmtime compiles."""

_NAMES_MAX = 8
_NAME_SIZE_MAX = 60
"""Largest number of imports in a message, and of characters of each."""

_COMPILED = "cwasm"
"""Kind of the cached files with compiled code."""

_IMPORT_SECTIONS = (1, 2)
"""Ids of the sections of types and of imports."""

#: Export that starts a program.
START_FUNCTION = "_start"


class GuestModule:
    """A module before compilation; ``path`` is its file, empty for bytes.

    ``hash`` is the SHA-256 of the bytes. If the hash is known in advance, the bytes are read at
    first use.
    """

    __slots__ = ("_data", "_read", "hash", "path")

    def __init__(self, data: bytes, path: str = "") -> None:
        self.hash = hashlib.sha256(data).digest()
        self.path = path
        self._data: bytes | None = data
        self._read: Callable[[], bytes] = lambda: data

    @classmethod
    def from_reader(cls, hash_: bytes, path: str, read: Callable[[], bytes]) -> Self:
        """Return the module with this hash; its bytes are read at first use."""
        module = cls.__new__(cls)
        module.hash, module.path = hash_, path
        module._data, module._read = None, read
        return module

    @property
    def data(self) -> bytes:
        """Return the bytes of the module; raise the errors of the read."""
        if self._data is None:
            self._data = self._read()
        return self._data


def load_module(
    module: bytes | str | os.PathLike[str], *, recorded_size: int | None = None
) -> GuestModule:
    """Return a module from bytes or a file; raises ``ModuleRefused``.

    Raises ``ModuleMismatch`` for a file of another size than ``recorded_size``, without reading it.
    """
    if isinstance(module, bytes):
        check_format(module, "the module")
        return GuestModule(module)
    path = Path(module)
    try:
        descriptor, status = file_kind.open_source(path, ModuleRefused)
        with open(descriptor, "rb") as file:  # noqa: PTH123 (this is a descriptor)
            if status.st_size > MODULE_SIZE_MAX:
                raise ModuleRefused(
                    f"module {to_line(str(path))} has {status.st_size} bytes, more than the limit "
                    f"of {MODULE_SIZE_MAX}"
                )
            if recorded_size not in (None, status.st_size):
                raise ModuleMismatch(
                    f"{to_line(str(path))} is not the recorded module: it has {status.st_size} "
                    f"bytes, the recorded one has {recorded_size}"
                )
            data = file.read(status.st_size)
        check_format(data, to_line(str(path)))
        return GuestModule(data, str(path.resolve()))
    except OSError as error:
        raise ModuleRefused(f"cannot read module {to_line(str(path))}: {error.strerror}") from error


def to_binary(module: GuestModule) -> bytes:
    """Return the bytes of a module in the binary format; raises ``ModuleRefused``."""
    data = module.data
    if not is_text(data):
        return data
    try:
        return bytes(wasmtime.wat2wasm(data))
    except wasmtime.WasmtimeError as error:
        raise ModuleRefused(describe_invalid(data, str(error))) from None


def read_memory_limits(module: GuestModule) -> list[int | None]:
    """Return the largest size of each memory in pages of 64 KiB, None for one without a limit.

    Raises ``ModuleRefused`` for an invalid module.
    """
    return [memory.maximum for memory in read_module_info(to_binary(module)).memories]


def compile_module(
    engine: Any,
    module: GuestModule,
    settings: EngineSettings,
    cache: UserCache,
    progress: ProgressCallback = ignore_progress,
) -> Any:
    """Return the compiled module, from the cache if possible; raises ``ModuleRefused``.

    ``settings`` are those of the engine.
    """
    identity = _compiled_identity(module, settings)
    for path in cache.find_mapped(_COMPILED, identity):
        # wasmtime rejects code for another kind of processor. Such code may be in the same cache.
        with suppress(wasmtime.WasmtimeError):
            return wasmtime.Module.deserialize_file(engine, str(path))
    result = _compile(engine, module, progress)
    cache.write_mapped(_COMPILED, identity, bytes(result.serialize()))
    return result


def find_compiled(module: GuestModule, settings: EngineSettings, cache: UserCache) -> Path | None:
    """Return the file of the compiled module in the cache, or None if there is none."""
    return next(cache.find_mapped(_COMPILED, _compiled_identity(module, settings)), None)


def check_program(module: Any, configuration: Configuration) -> None:
    """Raise ``ModuleRefused`` unless the module can run as a program within the limits."""
    _select_handlers(module.imports, configuration)
    exports = {export.name: export.type for export in module.exports}
    start = exports.get(START_FUNCTION)
    if start is None:
        raise ModuleRefused("the module has no _start function: it is a library, not a program")
    if not isinstance(start, wasmtime.FuncType) or start.params or start.results:
        raise ModuleRefused("the module's _start must be a function without parameters and results")
    for name, type_ in exports.items():
        if isinstance(type_, wasmtime.MemoryType):
            size, limit = type_.limits.min * PAGE_SIZE, configuration.memory_size_max
            if size > limit:
                raise ModuleRefused(
                    f"memory {_shorten(name)} has {size} bytes, more than the limit of {limit}"
                )
        elements_max = configuration.table_elements_max
        if isinstance(type_, wasmtime.TableType) and type_.limits.min > elements_max:
            raise ModuleRefused(
                f"table {_shorten(name)} has {type_.limits.min} elements, more than the limit of "
                f"{elements_max}"
            )


def _compile(engine: Any, module: GuestModule, progress: ProgressCallback) -> Any:
    try:
        with report_phase(progress, COMPILE_PHASE, len(module.data)):
            data = module.data
            compiled = call_abandonable(lambda: wasmtime.Module(engine, data))
    except wasmtime.WasmtimeError as error:
        raise ModuleRefused(describe_refused(module.data, str(error))) from None
    _refuse_vectors(to_binary(module))
    return compiled


def _refuse_vectors(module: bytes) -> None:
    """Raise ``ModuleRefused`` if a module imports a function of the host with a vector."""
    for namespace, name in sorted(find_vector_imports(module)):
        if name in IMPORTS.get(namespace, {}):
            raise ModuleRefused(
                f"the module imports {namespace}.{name} with a vector (v128), which no function of "
                "the host has"
            )


def _compiled_identity(module: GuestModule, settings: EngineSettings) -> bytes:
    """Return what compiled code depends on: the module, the engine and its settings."""
    parts = (module.hash.hex(), bindings.VERSION, repr(settings))
    return "\0".join(parts).encode()


def define_imports(
    instance: bindings.Instance, module: Any, configuration: Configuration, context: CallContext
) -> None:
    """Define the module's imports in the instance; raises ``ModuleRefused`` for unknown imports.

    If one of them is a function of signals, or the guest needs signals, these are delivered at the
    end of each call.
    """
    selected, guest_signals = _select_handlers(module.imports, configuration), context.signals
    if guest_signals.is_needed or any(_gives_signals(import_) for import_, _, _ in selected):
        guest_signals.attach(instance)
    for import_, signature, handler in selected:
        function = guest_signals.wrap(handler) if guest_signals.is_enabled else handler
        instance.define(import_, signature, function, context)


def _gives_signals(import_: Any) -> bool:
    return import_.module == wasix.MODULE and import_.name in signals.FUNCTIONS


def check_imports(module: GuestModule, configuration: Configuration) -> None:
    """Raise ``ModuleRefused`` for unknown imports of a module, without compiling its functions.

    A module that is not valid is not refused here. An instrumented module lacks the imports that it
    does not use, so its imports say nothing about those of the original module.
    """
    try:
        sections = [one for one in iter_sections(module.data) if one.id in _IMPORT_SECTIONS]
        head = b"".join(module.data[section.start : section.stop] for section in sections)
        imports = wasmtime.Module(make_engine(configuration), MAGIC + head).imports
    except (ModuleRefused, wasmtime.WasmtimeError):
        return
    _refuse_vectors(MAGIC + head)
    _select_handlers(imports, configuration)


def _select_handlers(
    imports: Iterable[Any], configuration: Configuration
) -> list[tuple[Any, bindings.Signature, bindings.Handler]]:
    """Return each import, once, with the signature and the handler of its host function."""
    selected: dict[str, tuple[Any, bindings.Signature, bindings.Handler]] = {}
    traps = True
    unknown: dict[str, str] = {}
    for import_ in imports:
        name = f"{import_.module}.{import_.name}"
        host_function = IMPORTS.get(import_.module, {}).get(import_.name or "")
        is_function = isinstance(import_.type, wasmtime.FuncType)
        if (
            host_function
            and is_function
            and bindings.read_signature(import_.type) == host_function[0]
        ):
            selected[name] = (import_, *host_function)
        elif is_function and configuration.unknown_imports is UnknownImports.TRAP:
            selected[name] = (import_, bindings.NO_ARGUMENTS, _make_trap(name))
        else:
            reason = find_reason(import_.module, import_.name or "")
            unknown[name] = "another type" if host_function else reason
            traps = traps and is_function
    if unknown:
        remedy = (
            "it can run until it calls one, with --unknown-imports trap"
            if traps
            else "only functions can be imported"
        )
        raise ModuleRefused(f"the module has unknown imports: {_list_names(unknown)}; {remedy}")
    return list(selected.values())


def _list_names(unknown: dict[str, str]) -> str:
    """Return the first names of imports: those with one reason together, those without last."""
    first = sorted(unknown)[:_NAMES_MAX]
    names: dict[str, list[str]] = {}
    for name in first:
        names.setdefault(unknown[name], []).append(_shorten(name))
    others = names.pop("", [])
    texts = [f"{', '.join(group)} ({reason})" for reason, group in names.items()] + others
    more = len(unknown) - len(first)
    return ", ".join(texts) + (f" and {more} more" if more > 0 else "")


def _shorten(name: str) -> str:
    """Return a name of the module for a message, which has several of them."""
    return name if name.isprintable() and len(name) <= _NAME_SIZE_MAX else quote(name)


def _make_trap(name: str) -> bindings.Handler:
    def trap(*_: object) -> int:
        raise bindings.UnknownImport(f"call of the unknown import {name}")

    return trap
