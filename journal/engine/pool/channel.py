"""Channel: one end of a socket pair that carries whole messages."""

import asyncio
import socket
import struct
from contextlib import suppress

from journal.engine.pool.messages import Message, MessageBuffer

_READ_SIZE = 1 << 16
_READ_SIZE_MAX = 1 << 20
_TIMEVAL = struct.Struct("@ll")
_MICROSECONDS_MAX = 1 << 50


class ChannelClosed(Exception):
    """The other end of a channel is closed, as after the death of its process."""


class Channel:
    """One end of a socket pair that carries whole messages.

    A channel is used by one thread or task at a time; ``send_now`` and ``shut_down`` may be called
    by any thread. After an exception a channel carries no further answer.

    > Why not ``settimeout``? It changes the descriptor for all threads, and costs system calls at
    each change from a thread to asyncio and back. The kernel has a timeout of its own, and
    MSG_DONTWAIT for one call.
    """

    __slots__ = ("_buffer", "_socket", "_timeout", "_unsent")

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(True)
        self._socket = end
        self._buffer = MessageBuffer()
        self._unsent: bytes | memoryview = b""
        self._timeout: float | None = None

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._socket.fileno()

    # -- sending ----------------------------------------------------------------------------------

    def send(self, data: bytes, timeout_seconds: float | None = None) -> None:
        """Send framed messages, after the rest of a message whose sending was interrupted.

        The timeout holds for each part. Raises ChannelClosed, and TimeoutError.
        """
        self._set_timeout(timeout_seconds)
        self._queue(data)
        while self._unsent:
            if not self._send_part(0):
                raise TimeoutError

    async def send_async(self, data: bytes) -> None:
        """Send framed messages without blocking the event loop. Raises ChannelClosed.

        A caller that is cancelled leaves the rest of its message to the next ``send``.
        """
        self._queue(data)
        while self._unsent:
            if not self._send_part(socket.MSG_DONTWAIT):
                await _wait_until_ready(self._socket, is_writing=True)

    def send_now(self, data: bytes) -> None:
        """Send a small message from any thread, without waiting.

        It fits, unless the other end has stopped to read. Nothing is sent on a closed channel.
        """
        with suppress(OSError):
            self._socket.send(data, socket.MSG_DONTWAIT)

    def _queue(self, data: bytes) -> None:
        self._unsent = bytes(self._unsent) + data if self._unsent else data

    def _send_part(self, flags: int) -> bool:
        """Send a part of the message, and return whether the kernel accepted any of it."""
        try:
            size = self._socket.send(self._unsent, flags)
        except BlockingIOError:
            return False
        except OSError as error:
            raise ChannelClosed from error
        self._unsent = b"" if size == len(self._unsent) else memoryview(self._unsent)[size:]
        return True

    # -- receiving --------------------------------------------------------------------------------

    def receive(self, timeout_seconds: float | None = None) -> Message:
        """Return the next message.

        The timeout holds for each part. Raises ChannelClosed, TimeoutError, and MalformedMessage.
        """
        self._set_timeout(timeout_seconds)
        message = self._buffer.take()
        while message is None:
            data = self._receive_part(0)
            if data is None:
                raise TimeoutError
            message = self._buffer.add(data)
        return message

    async def receive_async(self) -> Message:
        """Return the next message without blocking the event loop.

        Raises ChannelClosed and MalformedMessage.
        """
        while (message := self.receive_available()) is None:
            await _wait_until_ready(self._socket, is_writing=False)
        return message

    def receive_available(self) -> Message | None:
        """Return the next message if all of it has arrived.

        Raises ChannelClosed and MalformedMessage.
        """
        message = self._buffer.take()
        while message is None:
            data = self._receive_part(socket.MSG_DONTWAIT)
            if data is None:
                return None
            message = self._buffer.add(data)
        return message

    def is_idle(self) -> bool:
        """Return whether the other end is open and has sent nothing."""
        try:
            self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def _receive_part(self, flags: int) -> bytes | None:
        """Return received bytes, None if there are none yet."""
        size = min(max(_READ_SIZE, self._buffer.missing_size), _READ_SIZE_MAX)
        try:
            data = self._socket.recv(size, flags)
        except BlockingIOError:
            return None
        except OSError as error:
            raise ChannelClosed from error
        if not data:
            raise ChannelClosed
        return data

    def _set_timeout(self, seconds: float | None) -> None:
        if seconds == self._timeout:
            return
        microseconds = 0 if seconds is None else min(max(1, int(seconds * 1e6)), _MICROSECONDS_MAX)
        value = _TIMEVAL.pack(*divmod(microseconds, 1_000_000))
        with suppress(OSError):  # A closed channel: the next call tells.
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                self._socket.setsockopt(socket.SOL_SOCKET, option, value)
        self._timeout = seconds

    # -- the end ----------------------------------------------------------------------------------

    def shut_down(self) -> None:
        """End both directions, which wakes a thread that waits on either end."""
        with suppress(OSError):  # It is closed already.
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close this end."""
        self._socket.close()


async def _wait_until_ready(end: socket.socket, *, is_writing: bool) -> None:
    """Wait until a socket accepts or has bytes."""
    loop = asyncio.get_running_loop()
    is_ready = loop.create_future()
    number = end.fileno()
    add, remove = (
        (loop.add_writer, loop.remove_writer)
        if is_writing
        else (loop.add_reader, loop.remove_reader)
    )
    add(number, _set_done, is_ready)
    try:
        await is_ready
    finally:
        remove(number)


def _set_done(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
