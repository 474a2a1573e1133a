"""A module variant with its compiled code and its engine."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from journal.engine.allocation import DEFAULT_STRATEGY, InstanceAllocationStrategy
from journal.engine.configuration import (
    MEMORIES_MAX,
    PAGE_SIZE,
    Configuration,
    SnapshotOptions,
    Stacks,
)
from journal.engine.program.asyncify_worker import STACK_MEMORY_PAGES
from journal.engine.program.engine import make_engine, make_settings
from journal.engine.program.module import (
    GuestModule,
    check_imports,
    check_program,
    compile_module,
    define_imports,
)
from journal.engine.program.module_limits import check_growth, check_limits, lower_limits
from journal.engine.program.user_cache import UserCache
from journal.engine.program.variant import ModuleVariant, Notify, select_variant
from journal.engine.runtime.bindings import Instance
from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.functions import wasix
from journal.engine.wasi.processes import PROCESS_FUNCTIONS
from journal.errors import ModuleRefused
from journal.rewrite.progress import ProgressCallback, ignore_progress


class PreparedModule(NamedTuple):
    """The parts of a process that depend on the module.

    ``configuration`` names the tool that instrumented the variant.
    """

    engine: Any
    compiled: Any
    variant: ModuleVariant
    configuration: Configuration

    @property
    def is_wasix(self) -> bool:
        """Return whether the module imports a function of WASIX."""
        return any(import_.module == wasix.MODULE for import_ in self.compiled.imports)

    @property
    def starts_processes(self) -> bool:
        """Return whether the module imports a function that starts a program."""
        return any(
            import_.module == wasix.MODULE and import_.name in PROCESS_FUNCTIONS
            for import_ in self.compiled.imports
        )

    def set_up_instance(self, instance: Instance, context: CallContext) -> None:
        """Limit the growth of an instance, and define its imports, which use ``context``.

        Raises ``ModuleRefused`` for unknown imports.
        """
        instance.limit(
            memory_size_max=self.configuration.memory_size_max,
            memories=MEMORIES_MAX + self.variant.has_stacks,
            table_elements=self.configuration.table_elements_max,
        )
        define_imports(instance, self.compiled, self.configuration, context)


def prepare_new_run(
    module: GuestModule,
    snapshots: SnapshotOptions,
    configuration: Configuration,
    cache: Path | None,
    note: Notify,
    progress: ProgressCallback,
    allocation: InstanceAllocationStrategy = DEFAULT_STRATEGY,
) -> PreparedModule:
    """Instrument and compile a module for a new run, or load it from the cache.

    Raises ``ModuleRefused``.
    """
    configuration = lower_limits(configuration, allocation)
    if snapshots.is_enabled:
        check_imports(module, configuration)
        check_limits(module, allocation)  # Before the instrumentation, which takes minutes.
        report_small_memory(snapshots, configuration, note)
    snapshots = without_stacks_in_small_memory(snapshots, configuration)
    variant = select_variant(module, snapshots, cache, note, progress)
    return prepare(variant, configuration, cache, progress, allocation)


def report_small_memory(
    snapshots: SnapshotOptions, configuration: Configuration, note: Notify
) -> None:
    """Note that snapshots have no stacks because of the memory limit, or refuse that."""
    fitting = without_stacks_in_small_memory(snapshots, configuration)
    if fitting.stacks is snapshots.stacks or not snapshots.is_enabled or snapshots.by_default:
        return
    reason = (
        f"the memory that saves the stack needs a limit of {STACK_MEMORY_PAGES * PAGE_SIZE} bytes, "
        f"and the limit is {configuration.memory_size_max}"
    )
    if snapshots.stacks is Stacks.ALWAYS:
        raise ModuleRefused(f"stacks cannot be captured in snapshots: {reason}")
    note(f"snapshots have no stacks, so a resume executes the guest again: {reason}")


def without_stacks_in_small_memory(
    snapshots: SnapshotOptions, configuration: Configuration
) -> SnapshotOptions:
    """Return the options without stacks if the memory that saves the stack does not fit.

    That memory counts towards the memory limit of the guest.
    """
    if configuration.memory_size_max >= STACK_MEMORY_PAGES * PAGE_SIZE:
        return snapshots
    return replace(snapshots, stacks=Stacks.NEVER)


def prepare(
    variant: ModuleVariant,
    configuration: Configuration,
    cache: Path | None,
    progress: ProgressCallback = ignore_progress,
    allocation: InstanceAllocationStrategy = DEFAULT_STRATEGY,
) -> PreparedModule:
    """Compile a module, or load it from the cache.

    Raises ``ModuleRefused``, and ``OptionError`` for a strategy with which the guest would differ
    from its recording.
    """
    configuration = replace(configuration, instrumentation=variant.instrumentation)
    check_limits(variant.original, allocation)
    check_growth(variant.original, configuration, allocation)
    engine = make_engine(configuration, allocation)
    files = UserCache.open(cache)
    settings = make_settings(configuration, allocation)
    compiled = compile_module(engine, variant.module, settings, files, progress)
    check_program(compiled, configuration)
    return PreparedModule(engine, compiled, variant, configuration)
