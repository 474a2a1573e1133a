"""Worker of a pool, seen from inside: loads the template, and serves each slot in a thread."""

import os
import socket
import sys
import threading
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING

from journal.engine.pool.channel import Channel, ChannelClosed
from journal.engine.pool.messages import Kind, decode_values, encode_error, frame
from journal.engine.pool.pool_options import PoolOptions
from journal.engine.pool.slot_server import SlotServer
from journal.engine.session.recorder import start_guest_thread

if TYPE_CHECKING:
    from journal.engine.clones.template import CloneTemplate

_SWITCH_PERIOD_SECONDS = 0.0005
"""Time after which a thread that executes Python gives way to another slot's thread."""


def main(descriptors: list[int]) -> None:
    """Run a worker process on the ends of its channels. It ends when the pool closes them."""
    sys.setswitchinterval(_SWITCH_PERIOD_SECONDS)
    code = 0
    try:
        ends = [socket.socket(fileno=number) for number in descriptors]
        WorkerServer(ends, owns_process=True).serve()
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        code = 1
    os._exit(code)  # A guest may run in a thread for ever.


class WorkerServer:
    """Server of the slots of one worker. ``owns_process`` is false in a process of the pool."""

    def __init__(self, ends: list[socket.socket], *, owns_process: bool = False) -> None:
        self._owns_process = owns_process
        self._control, *self._channels = map(Channel, ends)
        self._servers: list[SlotServer] = []
        self._threads: list[threading.Thread] = []
        self._failure: Exception | None = None

    def serve(self) -> None:
        """Serve the slots until the pool closes the channels or requests the end.

        Raises the error of a slot that cannot go on, such as a clone that could not be cleaned.
        """
        template: CloneTemplate | None = None
        try:
            with suppress(ChannelClosed):
                try:
                    options = PoolOptions.from_values(decode_values(self._control.receive().body))
                    if self._owns_process:
                        options.use_keys()
                    template = options.load_template()
                    self._start_slots(template, options)
                except Exception as error:
                    self._control.send(frame(Kind.FAILURE, 0, encode_error(error)))
                else:
                    self._control.send(frame(Kind.READY, 0))
                    self._obey()
        finally:
            self._end()
            if template is not None:
                template.close()
        if self._failure is not None:
            raise self._failure

    def _start_slots(self, template: "CloneTemplate", options: PoolOptions) -> None:
        futures = []
        for channel in self._channels:
            future: Future[SlotServer] = Future()
            futures.append(future)
            thread = start_guest_thread(
                lambda channel=channel, future=future: self._serve_slot(  # type: ignore[misc]
                    template, options, channel, future
                ),
                template.stack.size,
            )
            self._threads.append(thread)
        self._servers = [future.result() for future in futures]

    def _serve_slot(
        self,
        template: "CloneTemplate",
        options: PoolOptions,
        channel: Channel,
        future: "Future[SlotServer]",
    ) -> None:
        try:
            # The clone is made in the thread that will run it.
            server = SlotServer(template, options.limits, is_paranoid=options.is_paranoid)
        except Exception as error:
            future.set_exception(error)
            return
        future.set_result(server)
        try:
            server.serve(channel)
        except Exception as error:
            self._failure = error
            self._control.shut_down()  # This ends the worker.

    def _obey(self) -> None:
        """Obey the pool: stop sessions, until it requests the end."""
        while (message := self._control.receive()).kind != Kind.CLOSE:
            index = int.from_bytes(message.body, "little")
            self._servers[index].stop(message.session)

    def _end(self) -> None:
        """End the threads of the slots."""
        for channel in self._channels:
            channel.shut_down()
        for server in self._servers:
            server.stop()
        for thread in self._threads:
            thread.join()
        for channel in (self._control, *self._channels):
            channel.close()
