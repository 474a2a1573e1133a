"""Process functions: arguments, environment, random bytes and exit."""

import struct
from os import urandom

from journal.engine.wasi.call_context import CallContext
from journal.events import codec
from journal.events.inputs import RandomBytes
from journal.wasi_abi import ProcExit

#: A longer request of the guest becomes several events.
RANDOM_SIZE_MAX = 1 << 20

_LENGTH = struct.Struct("<I")
_pack_random = codec.make_packer(RandomBytes)
_RANDOM = RandomBytes.tag


def args_get(context: CallContext, pointers: int, buffer: int) -> None:
    """Write the arguments."""
    _write_strings(context, context.arguments, pointers, buffer)


def args_sizes_get(context: CallContext, count: int, size: int) -> None:
    """Write the count of the arguments and their total size."""
    _write_sizes(context, context.arguments, count, size)


def environ_get(context: CallContext, pointers: int, buffer: int) -> None:
    """Write the environment variables."""
    _write_strings(context, context.environment, pointers, buffer)


def environ_sizes_get(context: CallContext, count: int, size: int) -> None:
    """Write the count of the environment variables and their total size."""
    _write_sizes(context, context.environment, count, size)


def _write_strings(context: CallContext, strings: list[bytes], pointers: int, buffer: int) -> None:
    for string in strings:
        context.memory.write_u32(pointers, buffer)
        context.memory.write(buffer, string + b"\0")
        pointers += 4
        buffer += len(string) + 1


def _write_sizes(context: CallContext, strings: list[bytes], count: int, size: int) -> None:
    context.memory.write_u32(count, len(strings))
    context.memory.write_u32(size, sum(len(string) + 1 for string in strings))


def random_get(context: CallContext, pointer: int, size: int) -> None:
    """Write random bytes of the operating system."""
    memory = context.memory
    memory.check(pointer, size)
    while size > RANDOM_SIZE_MAX:
        if not context.tape.replaying:
            # A call that writes much can be stopped. A resume continues after the last part.
            context.interrupter.check()
        random_get(context, pointer, RANDOM_SIZE_MAX)
        pointer, size = pointer + RANDOM_SIZE_MAX, size - RANDOM_SIZE_MAX
    payload = context.tape.request_input(
        _RANDOM, _LENGTH.pack(size), lambda: _pack_random(urandom(size))
    )
    if len(payload) != _LENGTH.size + size:
        count = len(payload) - _LENGTH.size
        raise ValueError(f"recorded input has {count} random bytes: {size} were requested")
    memory.write(pointer, payload[_LENGTH.size :])


def sched_yield(context: CallContext) -> int:
    """Do nothing: the guest has one thread."""
    return 0


def proc_exit(context: CallContext, code: int) -> None:
    """End the process with an exit code."""
    raise ProcExit(code)
