"""A module variant with its compiled code and its engine."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from journal.engine.configuration import PAGE_SIZE, Configuration, SnapshotOptions, Stacks
from journal.engine.program.asyncify_worker import STACK_MEMORY_PAGES
from journal.engine.program.module import (
    GuestModule,
    check_imports,
    check_program,
    compile_module,
    make_engine,
)
from journal.engine.program.user_cache import UserCache
from journal.engine.program.variant import ModuleVariant, Notify, select_variant
from journal.rewrite.progress import ProgressCallback, ignore_progress


class PreparedModule(NamedTuple):
    """The parts of a process that depend on the module.

    ``configuration`` names the tool that instrumented the variant.
    """

    engine: Any
    compiled: Any
    variant: ModuleVariant
    configuration: Configuration


def prepare_new_run(
    module: GuestModule,
    snapshots: SnapshotOptions,
    configuration: Configuration,
    cache: Path | None,
    note: Notify,
    progress: ProgressCallback,
) -> PreparedModule:
    """Instrument and compile a module for a new run, or load it from the cache.

    Raises ``ModuleRefused``.
    """
    if snapshots.is_enabled:
        check_imports(module, configuration)
    snapshots = without_stacks_in_small_memory(snapshots, configuration)
    variant = select_variant(module, snapshots, cache, note, progress)
    return prepare(variant, configuration, cache, progress)


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
) -> PreparedModule:
    """Compile a module, or load it from the cache; raises ``ModuleRefused``."""
    configuration = replace(configuration, instrumentation=variant.instrumentation)
    engine = make_engine(configuration)
    files = UserCache.open(cache)
    compiled = compile_module(engine, variant.module, configuration, files, progress)
    check_program(compiled, configuration)
    return PreparedModule(engine, compiled, variant, configuration)
