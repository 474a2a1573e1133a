"""Reasons why data is no module that can run, in one line that names the cause and the remedy."""

import re

from journal.errors import ModuleRefused
from journal.format.segment_header import SEGMENT_MAGIC

_MAGIC = b"\0asm"
_COMPONENT_LAYER = b"\1\0"
_LAYER_AT = 6
_SIZE_MAX = 400

_TEXT_POSITION = re.compile(r"-->\s*\S*?:(\d+):(\d+)$")
_HEADINGS = ("failed to parse WebAssembly module", "Caused by:")
_NUMBER = re.compile(r"^\d+: ")


def is_text(module: bytes) -> bool:
    """Return whether a module is in the text format (WAT), or no module at all."""
    return not module.startswith(_MAGIC)


def check_format(data: bytes, name: str) -> None:
    """Raise ModuleRefused if the first bytes show that ``data`` is no module.

    ``name`` begins the message.
    """
    if not data:
        raise ModuleRefused(f"{name} is empty: a WebAssembly module was expected")
    if data.startswith(SEGMENT_MAGIC):
        raise ModuleRefused(f"{name} is a journal, not a module: use resume")
    if data.startswith(_MAGIC) and data[_LAYER_AT : _LAYER_AT + 2] == _COMPONENT_LAYER:
        raise ModuleRefused(
            f"{name} is a component: build it as a module of WASI preview 1 (wasm32-wasip1)"
        )
    if is_text(data) and _is_binary(data):
        raise ModuleRefused(f"{name} is not a WebAssembly module: it does not begin with \\0asm")


def describe_invalid(module: bytes, message: str) -> str:
    """Return the sentence for a module that wasmtime refuses with ``message``, which has lines."""
    reason = join_causes(message)
    if is_text(module):
        return f"the module, which is text, is not valid: {reason}"
    return f"the module is not valid: {reason}"


_INSTANCE_SIZE = re.compile(r"requires (\d+) bytes which exceeds the configured maximum of (\d+)")
_DOES_NOT_FIT = "does not fit in pooling allocator requirements"


def describe_refused(module: bytes, message: str) -> str:
    """Return the sentence for a module that wasmtime does not compile, as ``describe_invalid``, or
    because it does not fit into the pool of the engine.
    """
    if _DOES_NOT_FIT not in message:
        return describe_invalid(module, message)
    found = _INSTANCE_SIZE.search(message)
    if found is None:
        return f"the module does not fit into the pool: {join_causes(message)}"
    return (
        f"the allocation strategy has max_core_instance_size={found[2]}, but the module needs "
        f"{found[1]}: the size of the record of its instance in bytes"
    )


def join_causes(message: str) -> str:
    """Return a message of wasmtime in one line, with its causes and without its headings."""
    causes: list[str] = []
    for line in map(str.strip, message.splitlines()):
        position = _TEXT_POSITION.search(line)
        if position is not None:
            causes[-1:] = [f"{causes[-1] if causes else ''} at line {position[1]}"]
            break  # An excerpt of the text follows.
        cause = _NUMBER.sub("", line)
        if cause and cause not in _HEADINGS:
            causes.append(cause)
    text = ": ".join(causes) or "wasmtime gives no reason"
    text = "".join(char if char.isprintable() else "?" for char in text)
    return text if len(text) <= _SIZE_MAX else f"{text[:_SIZE_MAX]}…"


def _is_binary(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return True
    return b"\0" in data
