"""Names of a package that are imported when they are first used (PEP 562)."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from journal._platform import require_linux
from journal.errors import EngineError


def lazy_names(
    package: str, modules: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the functions ``__getattr__`` and ``__dir__`` of ``package``.

    ``modules`` gives the module of each public name, relative to ``journal``. A name that is not
    used costs no import: some modules are slow to import, and the engine needs wasmtime.
    For a name of the engine, ``__getattr__`` raises ``EngineError`` if wasmtime is not installed,
    and ``OptionError`` if the system is not Linux.
    """

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if modules[name].startswith("engine."):
            require_linux("running a guest")
        try:
            return getattr(import_module(f"journal.{modules[name]}"), name)
        except ModuleNotFoundError as error:
            if error.name != "wasmtime":
                raise
            raise EngineError(
                f"{package}.{name} needs wasmtime: pip install 'wasm-journal[engine]'"
            ) from error

    def names() -> list[str]:
        return sorted(modules)

    return get, names
