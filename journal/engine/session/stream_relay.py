"""Passing of bytes between the standard streams of the first process and the other processes.

A child that inherits a standard stream has the end of a pipe instead, whose other end is here. So
the first process delivers all output, in one order and exactly once, and one source of input is
read by one process. What passes is recorded in the journal of the first process.
"""

from collections.abc import Callable

from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.channel import WaitSource
from journal.engine.wasi.descriptors import InputStream, OutputStream
from journal.engine.wasi.functions.streams import STREAM_READ_SIZE_MAX
from journal.engine.wasi.objects.pipe import PIPE_SIZE
from journal.engine.wasi.objects.shared_pipe import (
    PipeId,
    PipePart,
    SharedPipe,
    SharedReader,
    SharedWriter,
)
from journal.engine.wasi.stdio.outbox import STDERR, STDIN, STDOUT
from journal.events import codec
from journal.events.processes import StreamPassed

_pack_passed, _unpack_passed = (
    codec.make_late_packer(StreamPassed),
    codec.make_late_unpacker(StreamPassed),
)


class StreamRelay:
    """The ends of the pipes through which other processes use the standard streams.

    ``serve`` is called in the thread of the first process only.
    """

    def __init__(
        self,
        context: CallContext,
        append_frame: Callable[[int, bytes], int],
        barrier: Callable[[], None],
    ) -> None:
        streams = [context.descriptors.used[stream] for stream in (STDIN, STDOUT, STDERR)]
        assert isinstance(streams[0], InputStream), "the guest has not started"
        self._input = streams[0]
        self._outputs = [each for each in streams if isinstance(each, OutputStream)]
        self._context, self._append_frame, self.barrier = context, append_frame, barrier
        self.wake: Callable[[], None] = lambda: None
        self._ends: dict[int, SharedReader | SharedWriter] = {}

    def attach(self, find_pipe: Callable[[PipeId], SharedPipe], wake: Callable[[], None]) -> None:
        """Connect the streams with their pipes: the guest is live."""
        self.wake = wake
        for stream in (STDIN, STDOUT, STDERR):
            pipe_id = PipeId(0, stream)
            end = SharedWriter(pipe_id) if stream == STDIN else SharedReader(pipe_id)
            end.attach(find_pipe(pipe_id), self)
            self._ends[stream] = end

    def repeat(self, payload: bytes) -> None:
        """Repeat a recorded passing, in a replay of the first process."""
        stream, offset, _, data = _unpack_passed(payload)
        if stream == STDIN:
            self._input.position = offset + len(data)
            return
        for output in self._outputs:
            if output.number == stream:
                self._context.outbox.requeue(stream, offset, data)
                output.position = offset + len(data)

    def serve(self) -> None:
        """Pass on what the other processes have written, and input that they wait for."""
        if not self._ends or self._context.tape.replaying:
            return
        for output in self._outputs:
            self._pass_output(output)
        self._pass_input()

    def _pass_output(self, output: OutputStream) -> None:
        pipe = self._ends[output.number].pipe
        while pipe.size:
            part = pipe.take(PIPE_SIZE)
            assert part is not None, "only this end takes bytes"
            payload = _pack_passed(output.number, output.position, *part)
            self._append_frame(StreamPassed.tag, payload)
            self._context.outbox.put(output.number, output.position, part.data)
            output.position += len(part.data)

    def _pass_input(self) -> None:
        end = self._ends.get(STDIN)
        if end is None or not end.pipe.wanted_size or not self._input.source.is_ready():
            return
        pipe, stream = end.pipe, self._input
        size_max = min(pipe.wanted_size, STREAM_READ_SIZE_MAX, PIPE_SIZE)
        room = pipe.reserve(size_max, is_whole=False)
        if room is None:
            return
        try:
            data = stream.source.read(stream.position, len(room.data))
        except BlockingIOError:  # Another program has read the input.
            pipe.cancel()
            return
        except OSError:
            data = b""  # Other processes find the end of an input that cannot be read.
        part = PipePart(room.offset, data)
        if data:
            self._append_frame(StreamPassed.tag, _pack_passed(STDIN, stream.position, *part))
            stream.position += len(data)
            self.barrier()
            pipe.commit(part)
            return
        pipe.cancel()
        del self._ends[STDIN]
        end.detach()

    @property
    def awaits_input(self) -> bool:
        """Return whether another process waits for standard input."""
        end = self._ends.get(STDIN)
        return end is not None and bool(end.pipe.wanted_size)

    def watch(self, source: WaitSource | None) -> WaitSource:
        """Return a source of a wait that ends as ``source``, and also watches the input."""
        return _RelayedWait(source, self)

    def poll_events(self) -> list[tuple[int, int]]:
        """Return the descriptors of the host to watch for the other processes."""
        source = self._input.source
        return source.poll_events() if self.awaits_input and not source.is_ready() else []


class _RelayedWait:
    """A wait of the first process that also watches the input for other processes."""

    def __init__(self, source: WaitSource | None, relay: StreamRelay) -> None:
        self._source, self._relay = source, relay

    def is_ready(self) -> bool:
        """Return whether the guest can continue."""
        return self._source is not None and self._source.is_ready()

    def poll_events(self) -> list[tuple[int, int]]:
        """Return the descriptors of the host to watch."""
        own = [] if self._source is None else self._source.poll_events()
        return [*own, *(each for each in self._relay.poll_events() if each not in own)]
