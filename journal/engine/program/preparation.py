"""Preparation of a module before its first run: its instrumented and compiled code in the cache."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from journal._arguments import check_callable, check_optional, check_path, check_type
from journal.engine.allocation import (
    DEFAULT_STRATEGY,
    InstanceAllocationStrategy,
    check_allocation,
)
from journal.engine.configuration import Configuration, SnapshotOptions
from journal.engine.program.engine import make_settings
from journal.engine.program.instrument import INSTRUMENT_PHASE
from journal.engine.program.module import COMPILE_PHASE, find_compiled, load_module
from journal.engine.program.prepared import prepare_new_run
from journal.engine.program.user_cache import UserCache, get_default_cache
from journal.engine.program.variant import Notify
from journal.errors import OptionError
from journal.rewrite.progress import ProgressCallback, ignore_progress


@dataclass(frozen=True, slots=True)
class ModulePreparation:
    """Result of :func:`prepare_module`.

    ``module`` is the path of the module, empty for bytes, ``hash`` its SHA-256, and ``size`` its
    size in bytes. ``tool`` is the name of the tool that instrumented it, empty if none did, and
    ``instrumented_size`` the size of the result. ``reason`` says why it was not instrumented for
    snapshots that need that. ``code`` is the file of the compiled code and ``code_size`` its size.
    ``instrument_seconds`` and ``compile_seconds`` are 0 if the cache had the result.
    """

    module: str
    hash: bytes
    size: int
    tool: str
    instrumented_size: int
    reason: str
    code: Path
    code_size: int
    instrument_seconds: float
    compile_seconds: float


def prepare_module(
    module: bytes | str | os.PathLike[str],
    *,
    snapshots: SnapshotOptions | None = None,
    configuration: Configuration | None = None,
    cache: Path | None = None,
    allocation: InstanceAllocationStrategy = DEFAULT_STRATEGY,
    note: Notify = lambda text: None,
    progress: ProgressCallback = ignore_progress,
) -> ModulePreparation:
    """Instrument and compile ``module`` into the cache, as far as it is not there.

    A following :func:`record` with the same ``snapshots``, ``configuration``, ``cache`` and
    ``allocation`` starts without either, as does a resume of its journal. ``note`` receives
    remarks for the user, and ``progress`` the phases. Raises ``ModuleRefused`` if the engine cannot
    run the module, and ``OptionError`` for invalid options or a cache that cannot be used.
    """
    if not isinstance(module, bytes):
        check_path("module", module)
    check_optional("snapshots", snapshots, check_type, SnapshotOptions)
    check_optional("configuration", configuration, check_type, Configuration)
    snapshots, configuration = snapshots or SnapshotOptions(), configuration or Configuration()
    folder = get_default_cache() if cache is None else check_path("cache", cache)
    files = UserCache.open(folder)
    check_allocation("allocation", allocation)
    check_callable("note", note)
    check_callable("progress", progress)
    times = _PhaseTimes(progress)
    original = load_module(module)
    program = prepare_new_run(
        original, snapshots, configuration, folder, note, times.report, allocation
    )
    variant = program.variant
    code = find_compiled(variant.module, make_settings(program.configuration, allocation), files)
    if code is None:
        raise OptionError(
            f"the cache {folder} cannot keep the code: it must be writable for this user only"
        )
    return ModulePreparation(
        module=original.path,
        hash=original.hash,
        size=len(original.data),
        tool=variant.instrumentation,
        instrumented_size=len(variant.instrumented),
        reason=variant.reason,
        code=code,
        code_size=code.stat().st_size,
        instrument_seconds=times.seconds.get(INSTRUMENT_PHASE, 0.0),
        compile_seconds=times.seconds.get(COMPILE_PHASE, 0.0),
    )


class _PhaseTimes:
    """Measure of the seconds of each phase, which passes the reports on."""

    def __init__(self, report: ProgressCallback) -> None:
        self.seconds: dict[str, float] = {}
        self._report = report
        self._start = 0.0

    def report(self, what: str, done: int, size: int) -> None:
        if not done:
            self._start = time.monotonic()
        if done >= size:
            self.seconds[what] = time.monotonic() - self._start
        self._report(what, done, size)
