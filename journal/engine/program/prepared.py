"""A module variant with its compiled code and its engine."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from journal.engine.configuration import Configuration
from journal.engine.program.module import (
    check_program,
    compile_module,
    make_engine,
)
from journal.engine.program.user_cache import UserCache
from journal.engine.program.variant import ModuleVariant
from journal.rewrite.progress import ProgressCallback, ignore_progress


class PreparedModule(NamedTuple):
    """The parts of a process that depend on the module.

    ``configuration`` names the tool that instrumented the variant.
    """

    engine: Any
    compiled: Any
    variant: ModuleVariant
    configuration: Configuration


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
