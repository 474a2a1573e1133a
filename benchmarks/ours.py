"""Runs of our own engine: recorded, with nothing written, and resumed."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any, cast

import journal
from benchmarks.peers import Measured, Plan, digest_of, journal_in, output_in
from benchmarks.stopwatch import Stopwatch, modules
from journal.engine.program.module import load_module
from journal.engine.program.prepared import prepare
from journal.engine.program.variant import unmodified
from journal.engine.session import preamble as identities
from journal.engine.session.process import Process
from journal.engine.session.recorded_run import NullWriter
from journal.engine.session.recorder import GuestRun, Recorder, connect_streams
from journal.engine.wasi.stdio.stdin import Interrupter
from journal.events.process import RecordingLevel


class Unwritten(NullWriter):
    """A writer that keeps nothing, for a run without a journal."""

    path = Path()

    def close(self) -> None:
        """Nothing to let go of."""


def recorded(plan: Plan) -> Measured:
    """As `journaltool run` does it, with a root in memory and the output in a regular file."""
    watch = Stopwatch()
    with output_in(Path(plan.folder)).open("xb") as output:
        guest = journal.record(
            plan.wasm,
            journal_in(Path(plan.folder)),
            args=plan.arguments,
            copies=_copies(plan),
            stdin=b"",
            stdout=output,
            durability=journal.engine.Durability(plan.durability),
            cache=modules(),
        )
        return _to_its_end(guest, plan, watch)


def unwritten(plan: Plan) -> Measured:
    """The same, but with a writer that discards."""
    watch = Stopwatch()
    with output_in(Path(plan.folder)).open("xb") as output:
        return _to_its_end(_without_a_journal(plan, output), plan, watch)


def resumed(plan: Plan) -> Measured:
    """A replay of the journal in the folder, and the little that follows."""
    watch = Stopwatch()
    with output_in(Path(plan.folder)).open("r+b") as output:
        guest = journal.resume(
            journal_in(Path(plan.folder)),
            stdin=b"",
            stdout=output,
            durability=journal.engine.Durability(plan.durability),
            cache=modules(),
        )
        return _to_its_end(guest, plan, watch)


def _copies(plan: Plan) -> list[journal.engine.FileCopy]:
    script = Path(plan.script)
    return [journal.engine.FileCopy(plan.script, f"/{script.name}")] if plan.script else []


def _to_its_end(guest: Recorder, plan: Plan, watch: Stopwatch) -> Measured:
    opening = watch.lap()
    with guest:
        outcome = guest.wait()
    running = watch.lap()
    assert outcome is not None
    assert outcome.code is not None, outcome
    digest = digest_of(Path(plan.folder), guest.files)
    return Measured(opening=opening, running=running, code=outcome.code, digest=digest)


def _without_a_journal(plan: Plan, output: IO[Any]) -> Recorder:
    """What `journal.record` makes, step by step, but for the journal."""
    nothing = cast(journal.Writer, Unwritten())
    loaded = load_module(plan.wasm)
    settings = journal.engine.Configuration()
    streams = connect_streams(b"", output, None)
    interrupter = Interrupter()
    identity = identities.write(
        nothing,
        loaded,
        settings,
        arguments=[argument.encode() for argument in plan.arguments],
        environment=[],
        mounts=[journal.MemoryMount("/")],
        copies=_copies(plan),
        level=RecordingLevel.FULL,
        embed=False,
    )
    process = Process(
        prepare(unmodified(loaded), settings, modules()),
        identity,
        nothing,
        output_targets=streams.output_targets,
        stdin=streams.source,
        interrupter=interrupter,
        durability=journal.engine.Durability(plan.durability),
    )
    process.begin_session()
    return Recorder(nothing, streams, interrupter, run=GuestRun(process, settings.stack_size))
