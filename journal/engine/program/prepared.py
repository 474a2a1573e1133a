"""A module variant with its compiled code and its engine."""

from pathlib import Path
from typing import Any, NamedTuple

from journal.engine.configuration import Configuration
from journal.engine.program.module import (
    check_program,
    compile_module,
    get_default_cache,
    make_engine,
)
from journal.engine.program.variant import ModuleVariant


class PreparedModule(NamedTuple):
    """The parts of a process that depend on the module."""

    engine: Any
    compiled: Any
    variant: ModuleVariant


def prepare(
    variant: ModuleVariant, configuration: Configuration, cache: Path | None
) -> PreparedModule:
    """Compile a module, or load it from the cache; raises ``ModuleRefused``."""
    engine = make_engine(configuration)
    compiled = compile_module(engine, variant.module, configuration, cache or get_default_cache())
    check_program(compiled, configuration)
    return PreparedModule(engine, compiled, variant)
