"""A module in the variant in which it runs, compiled, with the engine that it is compiled for."""

from pathlib import Path
from typing import Any, NamedTuple

from journal.engine.configuration import Configuration
from journal.engine.program import module as modules
from journal.engine.program.variant import ModuleVariant


class PreparedModule(NamedTuple):
    """What a process is made of."""

    engine: Any
    compiled: Any
    variant: ModuleVariant


def prepare(
    variant: ModuleVariant, configuration: Configuration, cache: Path | None
) -> PreparedModule:
    """Compile a module, or find it compiled; raises ``ModuleRefused``."""
    engine = modules.make_engine(configuration)
    compiled = modules.compile_module(
        engine, variant.module, configuration, cache or modules.default_cache()
    )
    modules.check_program(compiled, configuration)
    return PreparedModule(engine, compiled, variant)
