"""Standard streams of a process: the source of its input and the targets of its outputs."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import IO, Any

from journal.engine.session.run_config import Input, RunConfig
from journal.engine.wasi.stdio.delivery import StreamHistory, find_terminals
from journal.engine.wasi.stdio.outbox import STDERR, STDIN, STDOUT, OutputCallback, OutputTarget
from journal.engine.wasi.stdio.stdin import BytesSource, FedSource, StdinSource, open_source
from journal.events.streams import TargetKind


@dataclass(frozen=True, slots=True)
class StandardStreams:
    """Source of standard input and targets of the outputs.

    ``terminals`` are the streams that the guest sees as terminals: those of the first session.
    """

    source: StdinSource
    output_targets: dict[int, OutputTarget]
    terminals: Collection[int]


def connect_streams(
    config: RunConfig, histories: dict[int, StreamHistory] | None = None
) -> StandardStreams:
    """Return the streams of a session; ``histories`` are those of the recorded run, if any."""
    source = _open_stdin(config.stdin, histories[STDIN] if histories else None)
    output_targets = _open_outputs(config)
    if histories:
        return StandardStreams(source, output_targets, find_terminals(histories))
    kinds = {stream: target.kind for stream, target in output_targets.items()}
    kinds[STDIN] = source.make_opened_event().kind
    terminals = {stream for stream, kind in kinds.items() if kind is TargetKind.TERMINAL}
    return StandardStreams(source, output_targets, terminals)


def capture_outputs(on_output: OutputCallback | None = None) -> dict[int, OutputTarget]:
    """Return targets for both outputs: ``on_output``, or else the memory."""
    return {stream: _capture(stream, on_output) for stream in (STDOUT, STDERR)}


def _capture(stream: int, on_output: OutputCallback | None) -> OutputTarget:
    callback = None if on_output is None else partial(on_output, stream)
    return OutputTarget(TargetKind.CAPTURED, callback=callback)


def _open_outputs(config: RunConfig) -> dict[int, OutputTarget]:
    """Return the output targets.

    Streams to the same regular file share one target, which keeps their order.
    """
    output_targets: dict[int, OutputTarget] = {}
    for stream, output in ((STDOUT, config.stdout), (STDERR, config.stderr)):
        if output is None:
            output_targets[stream] = _capture(stream, config.on_output)
            continue
        target = OutputTarget.of_descriptor(_fileno(output))
        twin = output_targets.get(STDOUT)
        if (
            twin is not None
            and target.kind is twin.kind is TargetKind.REGULAR
            and (target.device, target.inode) == (twin.device, twin.inode)
        ):
            target = twin
        output_targets[stream] = target
    return output_targets


def _open_stdin(stdin: Input, history: StreamHistory | None) -> StdinSource:
    if stdin is None:
        return FedSource()
    if isinstance(stdin, FedSource):
        return stdin
    if isinstance(stdin, bytes):
        return BytesSource(stdin)
    first_target = history.targets[0][0] if history and history.targets else None
    return open_source(_fileno(stdin), first_target)


def _fileno(file: int | IO[Any]) -> int:
    return file if isinstance(file, int) else file.fileno()
