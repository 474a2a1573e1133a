"""Runs of the journal's engine: recorded, without writing, and resumed."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, cast

import journal
from benchmarks.peers import Measurement, Plan, compute_digest, journal_path, output_path
from benchmarks.stopwatch import Stopwatch, module_folder
from journal.engine.program.module import load_module
from journal.engine.program.prepared import prepare
from journal.engine.program.variant import make_unmodified_variant
from journal.engine.session import preamble
from journal.engine.session.journal_writer import NullWriter
from journal.engine.session.process import Process
from journal.engine.session.recorder import Recorder
from journal.engine.session.run_config import SessionConfig
from journal.engine.session.secret_environment import GuestEnvironment
from journal.engine.session.standard_streams import connect_streams
from journal.engine.wasi.stdio.stdin import Interrupter
from journal.events.process import RecordingLevel


class NullJournalWriter(NullWriter):
    """Writer that discards all events, for a run without a journal."""

    path = Path()

    def close(self) -> None:
        """Do nothing."""


def record(plan: Plan) -> Measurement:
    """Record a run as `journaltool run` does, with a memory root and the output in a file."""
    watch = Stopwatch()
    with output_path(Path(plan.folder)).open("xb") as output:
        guest = journal.record(
            plan.wasm,
            journal_path(Path(plan.folder)),
            args=plan.arguments,
            copies=_copies(plan),
            stdin=b"",
            stdout=output,
            durability=journal.engine.Durability(plan.durability),
            cache=module_folder(),
        )
        return _run_to_end(guest, plan, watch)


def run_unwritten(plan: Plan) -> Measurement:
    """Record the same run with a writer that discards all events."""
    watch = Stopwatch()
    with output_path(Path(plan.folder)).open("xb") as output:
        return _run_to_end(make_unwritten(plan, output), plan, watch)


def resume(plan: Plan) -> Measurement:
    """Replay the journal in the folder, and run the rest of the program."""
    watch = Stopwatch()
    with output_path(Path(plan.folder)).open("r+b") as output:
        guest = journal.resume(
            journal_path(Path(plan.folder)),
            stdin=b"",
            stdout=output,
            durability=journal.engine.Durability(plan.durability),
            cache=module_folder(),
        )
        return _run_to_end(guest, plan, watch)


def _copies(plan: Plan) -> list[journal.engine.FileCopy]:
    script = Path(plan.script)
    return [journal.engine.FileCopy(plan.script, f"/{script.name}")] if plan.script else []


def _run_to_end(guest: Recorder, plan: Plan, watch: Stopwatch) -> Measurement:
    opening = watch.lap()
    with guest:
        outcome = guest.wait()
    running = watch.lap()
    assert outcome is not None
    assert outcome.code is not None, outcome
    digest = compute_digest(Path(plan.folder), guest.files)
    return Measurement(opening=opening, running=running, code=outcome.code, digest=digest)


def make_unwritten(
    plan: Plan, output: IO[Any], listeners: Sequence[socket.socket] = ()
) -> Recorder:
    """Perform the steps of `journal.record` without a journal."""
    writer = cast(journal.Writer, NullJournalWriter())
    module = load_module(plan.wasm)
    settings = journal.engine.Configuration()
    config = SessionConfig(
        stdin=b"", stdout=output, durability=journal.engine.Durability(plan.durability)
    )
    streams = connect_streams(config)
    interrupter = Interrupter()
    identity = preamble.write(
        writer,
        module,
        settings,
        arguments=[argument.encode() for argument in plan.arguments],
        environment=GuestEnvironment(),
        mounts=[journal.MemoryMount("/")],
        copies=_copies(plan),
        level=RecordingLevel.FULL,
        embed=False,
        listeners=listeners,
    )
    program = prepare(make_unmodified_variant(module), settings, module_folder())
    process = Process(program, identity, writer, streams, interrupter, config, listeners=listeners)
    process.begin_session()
    return Recorder(writer, streams, interrupter, config, process=process)
