"""A module in the form in which it runs, compiled, with the engine that it is compiled for."""

from pathlib import Path
from typing import Any, NamedTuple

from journal.engine.configuration import Configuration
from journal.engine.program import module as modules
from journal.engine.program.variant import Form


class Program(NamedTuple):
    """What a process is made of."""

    engine: Any
    compiled: Any
    form: Form


def prepare(form: Form, configuration: Configuration, cache: Path | None) -> Program:
    """Compile a module, or find it compiled; raises ``ModuleRefused``."""
    engine = modules.engine_for(configuration)
    compiled = modules.compiled(
        engine, form.module, configuration, cache or modules.default_cache()
    )
    modules.check_program(compiled, configuration)
    return Program(engine, compiled, form)
