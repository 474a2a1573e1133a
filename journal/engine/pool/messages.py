"""Messages between a pool and its workers: their frames, and the layout of each body.

A message is a header of nine bytes (kind, number of the session, size of the body) and a body. The
guest's data travels as plain bytes, and nothing that a worker sends is executed: a worker runs
hostile guests, so the pool believes only what it has checked.
"""

import json
import struct
from enum import IntEnum
from typing import Any, NamedTuple

from journal import errors
from journal._arguments import to_line
from journal.engine.session.reply import Ending, Reply
from journal.errors import EngineError, JournalError

MESSAGE_SIZE_MAX = 256 << 20
"""Largest body of a message, in bytes."""
_ERROR_SIZE_MAX = 1 << 16
_CLOSED = "the message ends inside its fields"

_HEADER = struct.Struct("<BII")
_REPLY = struct.Struct("<BqII")
_FILE = struct.Struct("<II")
_NO_EXIT_CODE = -1
_ENDINGS = tuple(Ending)
_ENDING_INDEXES = {ending: index for index, ending in enumerate(_ENDINGS)}

HEADER_SIZE = _HEADER.size


class MalformedMessage(EngineError):
    """A worker sent a message that does not fit its layout."""


class Kind(IntEnum):
    """Meaning of a message."""

    # Requests to a slot. BEGIN and END have no answer of their own: an error of BEGIN is the answer
    # of the next request.
    BEGIN = 1
    RUN = 2
    RUN_TO_END = 3
    READ_FILE = 4
    LIST_FILES = 5
    SAVE_JOURNAL = 6
    END = 7
    ACKNOWLEDGE = 8
    # Answers of a slot.
    REPLY = 16
    DATA = 17
    FILES = 18
    DONE = 19
    FAILURE = 20
    # On the channel of a whole worker.
    CONFIGURE = 32
    READY = 33
    STOP_SLOT = 34
    CLOSE = 35


class Message(NamedTuple):
    """A received message."""

    kind: int
    session: int
    body: bytes


def frame(kind: Kind, session: int, body: bytes = b"") -> bytes:
    """Return the bytes of a message."""
    if len(body) > MESSAGE_SIZE_MAX:
        raise EngineError(
            f"a message between a pool and a worker may have {MESSAGE_SIZE_MAX} bytes, "
            f"not {len(body)}"
        )
    return _HEADER.pack(kind, session, len(body)) + body


class MessageBuffer:
    """Received bytes that are not yet a whole message."""

    __slots__ = ("_data",)

    def __init__(self) -> None:
        self._data = bytearray()

    def add(self, data: bytes) -> Message | None:
        """Append received bytes, and return the first message if it is complete."""
        if not self._data and len(data) >= HEADER_SIZE:
            kind, session, size = _HEADER.unpack_from(data)
            if size == len(data) - HEADER_SIZE:  # By far the most messages arrive in one piece.
                return Message(kind, session, data[HEADER_SIZE:])
        self._data += data
        return self.take()

    def take(self) -> Message | None:
        """Return the first message if it is complete."""
        if self.missing_size:
            return None
        kind, session, size = _HEADER.unpack_from(self._data)
        end = HEADER_SIZE + size
        body = bytes(memoryview(self._data)[HEADER_SIZE:end])
        del self._data[:end]
        return Message(kind, session, body)

    @property
    def missing_size(self) -> int:
        """Return how many bytes the first message lacks at least.

        Raises MalformedMessage for a body that is too large.
        """
        if len(self._data) < HEADER_SIZE:
            return HEADER_SIZE - len(self._data)
        size: int = _HEADER.unpack_from(self._data)[2]
        if size > MESSAGE_SIZE_MAX:
            raise MalformedMessage(
                f"a message has {size} bytes, and at most {MESSAGE_SIZE_MAX} are allowed"
            )
        return max(0, HEADER_SIZE + size - len(self._data))


# -- bodies ---------------------------------------------------------------------------------------


def encode_reply(reply: Reply) -> bytes:
    """Return the body of a reply."""
    code = _NO_EXIT_CODE if reply.exit_code is None else reply.exit_code
    index = _ENDING_INDEXES[reply.ending]
    head = _REPLY.pack(index, code, len(reply.stdout), len(reply.stderr))
    return b"".join((head, reply.stdout, reply.stderr, reply.message.encode()))


def decode_reply(body: bytes) -> Reply:
    """Return the reply of a body. Raises MalformedMessage."""
    try:
        index, code, stdout_size, stderr_size = _REPLY.unpack_from(body)
        ending = _ENDINGS[index]
        stderr_start = _REPLY.size + stdout_size
        message_start = stderr_start + stderr_size
        if message_start > len(body):
            raise MalformedMessage(_CLOSED)
        message = body[message_start:].decode() if message_start < len(body) else ""
    except (struct.error, IndexError, UnicodeError) as error:
        raise MalformedMessage(f"a reply is malformed: {error}") from error
    return Reply(
        ending,
        body[_REPLY.size : stderr_start],
        body[stderr_start:message_start],
        None if code == _NO_EXIT_CODE else code,
        message,
    )


def encode_files(files: dict[str, bytes]) -> bytes:
    """Return the body of a list of files."""
    parts = []
    for name, data in files.items():
        encoded = name.encode("utf-8", "surrogateescape")
        parts += [_FILE.pack(len(encoded), len(data)), encoded, data]
    return b"".join(parts)


def decode_files(body: bytes) -> dict[str, bytes]:
    """Return the files of a body. Raises MalformedMessage."""
    files: dict[str, bytes] = {}
    offset = 0
    while offset < len(body):
        if offset + _FILE.size > len(body):
            raise MalformedMessage(_CLOSED)
        name_size, data_size = _FILE.unpack_from(body, offset)
        name_start = offset + _FILE.size
        data_start = name_start + name_size
        offset = data_start + data_size
        if offset > len(body):
            raise MalformedMessage(_CLOSED)
        name = body[name_start:data_start].decode("utf-8", "surrogateescape")
        files[name] = body[data_start:offset]
    return files


def encode_values(values: dict[str, Any]) -> bytes:
    """Return the body of plain values."""
    return json.dumps(values).encode()


def decode_values(body: bytes) -> dict[str, Any]:
    """Return the plain values of a body. Raises MalformedMessage."""
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedMessage("a message has no values") from error
    if not isinstance(values, dict):
        raise MalformedMessage("a message has no values")
    return values


def encode_error(error: BaseException) -> bytes:
    """Return the body of an error: its class, and its data as plain values."""
    name = type(error).__name__
    if isinstance(error, JournalError):
        values = {"class": name, "args": error.args, "values": vars(error)}
    elif isinstance(error, OSError):
        text = error.strerror or str(error)
        named = text if error.filename is None else f"{error.filename}: {text}"
        values = {"class": name, "args": (error.errno, named), "values": {}}
    else:
        values = _make_plain_error(error)
    body = json.dumps(values, default=str).encode()
    return body if len(body) <= _ERROR_SIZE_MAX else encode_values(_make_plain_error(error))


def _make_plain_error(error: BaseException) -> dict[str, Any]:
    text = to_line(f"{type(error).__name__}: {error}")
    return {"class": "EngineError", "args": (text,), "values": {}}


_OS_ERRORS = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
_ERROR_CLASSES: dict[str, type[Exception]] = {
    **{
        name: kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, JournalError)
    },
    **{kind.__name__: kind for kind in _OS_ERRORS},
    "OSError": OSError,
}


def decode_error(body: bytes) -> Exception:
    """Return the error of a body. Only errors of this library and of the system are made."""
    values = decode_values(body)
    kind = _ERROR_CLASSES.get(str(values.get("class")), EngineError)
    args, attributes = values.get("args"), values.get("values")
    if not isinstance(args, list) or not isinstance(attributes, dict):
        raise MalformedMessage("an error of a worker is malformed")
    error = kind.__new__(kind, *args)
    error.args = tuple(map(_to_tuple, args))
    vars(error).update({name: _to_tuple(value) for name, value in attributes.items()})
    try:
        str(error)  # The text of some classes is made of their attributes.
    except Exception:
        raise MalformedMessage("an error of a worker is malformed") from None
    return error


def _to_tuple(value: Any) -> Any:
    """Return a list, which was a tuple before it became JSON, as a tuple."""
    return tuple(value) if isinstance(value, list) else value
