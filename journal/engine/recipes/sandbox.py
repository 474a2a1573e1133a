"""Sandboxes for Python and JavaScript: a warm interpreter, whose clones evaluate code."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from journal._arguments import (
    check_callable,
    check_each,
    check_flag,
    check_optional,
    check_path,
    check_text,
    check_type,
    refuse,
)
from journal.engine.configuration import Configuration
from journal.engine.pool.pool import Pool
from journal.engine.program.module import load_module
from journal.engine.program.variant import Notify
from journal.engine.recipes.conversation import VALUE_SIZE_MAX
from journal.engine.recipes.cpython_driver import CPYTHON_DRIVER
from journal.engine.recipes.quickjs_driver import QUICKJS_DRIVER
from journal.engine.recipes.sandbox_pool import SANDBOX_LIMITS, SandboxPool
from journal.engine.recipes.warm_journal import WarmProgram, ensure_warm_journal
from journal.engine.session.run_config import StrPath, check_module, ignore_note
from journal.engine.session.session_limits import SessionLimits
from journal.engine.wasi.filesystem.mounts import FileCopy, check_copy
from journal.rewrite.progress import ProgressCallback, ignore_progress

SANDBOX_CONFIGURATION = Configuration(memory_size_max=512 << 20, files_size_max=64 << 20)
"""Default limits of the memory and the files of an interpreter, which code notices as errors."""

_PYTHON_ARGUMENTS = ("python", "-I", "-c", CPYTHON_DRIVER)
_PYTHON_WARM_UP = (
    "1 + 1",
    "value = [1]\nlen(value)",
    "del value",
    "1 / 0",
    # Frozen objects are not collected, so a collection in a clone changes fewer pages.
    "__import__('gc').collect(), __import__('gc').freeze()",
)
_QUICKJS_ARGUMENTS = ("qjs", "--std", "--module", "--eval", QUICKJS_DRIVER)
_QUICKJS_WARM_UP = ("1 + 1", "null.missing", "std.gc()")


@dataclass(frozen=True, slots=True)
class Sandbox:
    """Warm interpreter in a journal; a base class.

    ``path`` is the journal, ``cache`` the directory of compiled modules, and ``is_new`` says
    whether the journal was made by this object.
    """

    path: Path
    cache: Path | None = None
    is_new: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", check_path("path", self.path))
        object.__setattr__(self, "cache", check_optional("cache", self.cache, check_path))
        check_flag("is_new", self.is_new)

    @classmethod
    def _prepare(
        cls,
        path: StrPath,
        program: WarmProgram,
        cache: StrPath | None,
        note: Notify,
        progress: ProgressCallback,
    ) -> Self:
        path = check_path("path", path)
        folder = check_optional("cache", cache, check_path)
        check_callable("note", note)
        check_callable("progress", progress)
        is_new = ensure_warm_journal(path, program, folder, note, progress)
        return cls(path, folder, is_new)

    def open(
        self,
        *,
        workers: int = 1,
        slots: int = 1,
        limits: SessionLimits | None = None,
        value_size_max: int = VALUE_SIZE_MAX,
        files: bool = True,
    ) -> SandboxPool:
        """Return a pool whose clones evaluate code.

        ``workers``, ``slots`` and ``limits`` are those of :class:`Pool`; by default an evaluation
        may take 60 seconds, and the output of a session 16 MiB. The other options are those of
        :class:`SandboxPool`. For further options of the pool, make both yourself:
        ``SandboxPool(Pool(sandbox.path, ...))``.
        """
        if limits is None:
            limits = SANDBOX_LIMITS
        pool = Pool(self.path, workers=workers, slots=slots, limits=limits, cache=self.cache)
        return SandboxPool(pool, value_size_max=value_size_max, files=files)


class PythonSandbox(Sandbox):
    """CPython that waits for code, with packages imported."""

    __slots__ = ()

    @classmethod
    def prepare(
        cls,
        module: bytes | StrPath,
        path: StrPath,
        *,
        imports: Iterable[str] = (),
        setup: str = "",
        copies: Iterable[FileCopy] = (),
        configuration: Configuration | None = None,
        cache: StrPath | None = None,
        note: Notify = ignore_note,
        progress: ProgressCallback = ignore_progress,
    ) -> Self:
        """Return a sandbox whose warm journal is at ``path``, and make the journal if it is not.

        ``module`` is CPython for WASI, which has its standard library inside. ``imports`` are the
        names of modules that are imported into the namespace of the code, and ``setup`` is code
        that runs after that. ``copies`` are files of the host that the code sees; a package of
        your own belongs under ``/packages``, where the interpreter looks for modules.
        ``configuration`` has the limits of the engine (default: a memory of 512 MiB, and files of
        64 MiB).

        The journal is made again if one of these changed, or the version of the engine. The first
        time takes minutes, because the module is instrumented; ``cache`` is the directory that
        keeps the result (default: one in the cache directory of the user).

        Raises ``OptionError`` for invalid options, a ``path`` with another content, and a setup
        that fails, ``ModuleRefused`` for a module that cannot be instrumented, and
        ``StorageError`` if the disk fails.
        """
        names = check_each("imports", imports, _check_import, what="names")
        lines = [*(f"import {name}" for name in names), check_text("setup", setup)]
        program = _make_program(
            module, _PYTHON_ARGUMENTS, "\n".join(lines), _PYTHON_WARM_UP, copies, configuration
        )
        return cls._prepare(path, program, cache, note, progress)


class QuickJSSandbox(Sandbox):
    """QuickJS that waits for code, with its setup done."""

    __slots__ = ()

    @classmethod
    def prepare(
        cls,
        module: bytes | StrPath,
        path: StrPath,
        *,
        setup: str = "",
        copies: Iterable[FileCopy] = (),
        configuration: Configuration | None = None,
        cache: StrPath | None = None,
        note: Notify = ignore_note,
        progress: ProgressCallback = ignore_progress,
    ) -> Self:
        """Return a sandbox whose warm journal is at ``path``, and make the journal if it is not.

        ``module`` is ``qjs`` of QuickJS-ng for WASI. ``setup`` is a script that runs before the
        snapshot: what it declares is there for the code. The other options, and the errors, are
        those of :meth:`PythonSandbox.prepare`.
        """
        check_text("setup", setup)
        program = _make_program(
            module, _QUICKJS_ARGUMENTS, setup, _QUICKJS_WARM_UP, copies, configuration
        )
        return cls._prepare(path, program, cache, note, progress)


def _make_program(
    module: bytes | StrPath,
    arguments: tuple[str, ...],
    setup: str,
    warm_up: tuple[str, ...],
    copies: Iterable[FileCopy],
    configuration: Configuration | None,
) -> WarmProgram:
    if configuration is None:
        configuration = SANDBOX_CONFIGURATION
    return WarmProgram(
        module=load_module(check_module("module", module)).data,
        arguments=arguments,
        setup=setup,
        warm_up=warm_up,
        copies=tuple(check_each("copies", copies, check_copy, what="copies")),
        configuration=check_type("configuration", configuration, Configuration),
    )


def _check_import(name: str, module: str) -> str:
    parts = check_text(name, module).split(".")
    if not all(part.isidentifier() for part in parts):
        refuse(name, "the name of a module", module)
    return module
