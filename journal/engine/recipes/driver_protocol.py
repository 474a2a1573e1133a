r"""Requests to the driver in a sandbox, and its replies.

The driver is a program inside the guest, where it evaluates code. A request is one line of JSON on
standard input::

    [nonce, seed, value_size_max, name, code]

``nonce`` is a random text of the host, and ``seed`` a random one for the generators of the
interpreter, or null. ``name`` is that of the code in tracebacks. The driver writes the reply to
standard output after the output of the code, and then waits for the next request::

    \x1e<nonce> {"value": ...} or {"repr": "..."} or {"error": "..."} or {}

The text behind the nonce has no control character, so the last occurrence of the nonce begins the
reply. Code does not know the nonce unless it searches the memory of the driver. It may do that: it
shares its process with the driver, and can reply what it likes. The host therefore bounds a reply
and parses it as JSON, but does not believe it.
"""

import json
import secrets
from typing import Any, NoReturn

from journal._arguments import quote
from journal.engine.recipes.evaluation import Evaluation
from journal.engine.session.reply import Ending, Reply

NONCE_SIZE = 8
SEED_SIZE = 16
_BYTES_PER_CHARACTER = 4
"""Largest size of a character of a value; the driver cuts an error to a third of the characters,
because each may become twelve bytes."""
_FRAME_SIZE_MAX = 64
"""Largest size of a reply besides its value."""

_ENDINGS = {
    Ending.EXITED: "the code ended its process with exit code {reply.exit_code}",
    Ending.TRAPPED: "the code trapped: {reply.message}",
    Ending.TIMED_OUT: "the code ran out of time: {reply.message}",
    Ending.OUT_OF_MEMORY: "the code ran out of memory: {reply.message}",
    Ending.OUTPUT_LIMIT: "the code wrote too much output: {reply.message}",
    Ending.STOPPED: "the code was stopped",
}
_TOOK_INPUT = "the code read the standard input of the sandbox, where the requests arrive"


def make_nonce() -> str:
    """Return a random text that code cannot guess."""
    return secrets.token_hex(NONCE_SIZE)


def make_seed() -> str:
    """Return a random text for the generators of random numbers of an interpreter."""
    return secrets.token_hex(SEED_SIZE)


def encode_request(
    nonce: str, seed: str | None, value_size_max: int, name: str, code: str
) -> bytes:
    """Return a request as the driver reads it."""
    return json.dumps([nonce, seed, value_size_max, name, code]).encode() + b"\n"


def decode_reply(reply: Reply, nonce: str, value_size_max: int) -> Evaluation:
    """Return the evaluation, without its files, that a guest replied to a request."""
    if reply.ending is not Ending.WAITING:
        error = _ENDINGS[reply.ending].format(reply=reply)
        return Evaluation(
            stdout=reply.stdout, stderr=reply.stderr, error=error, ending=reply.ending
        )
    stdout, found, text = reply.stdout.rpartition(f"\x1e{nonce} ".encode())
    if not found:
        return _make_broken(reply, _TOOK_INPUT)
    try:
        key, value = _parse(text, _FRAME_SIZE_MAX + value_size_max * _BYTES_PER_CHARACTER)
    except (ValueError, RecursionError) as error:
        return _make_broken(reply, f"the sandbox sent a reply that is invalid: {error}")
    return Evaluation(
        value=None if key == "error" else value,
        is_repr=key == "repr",
        stdout=stdout,
        stderr=reply.stderr,
        error=value if key == "error" else "",
    )


def _parse(text: bytes, size_max: int) -> tuple[str, Any]:
    """Return the key and the value of a reply. Raise ``ValueError`` or ``RecursionError``."""
    if len(text) > size_max:
        raise ValueError(f"it has {len(text)} bytes, allowed are {size_max}")
    fields = json.loads(text, parse_constant=_refuse_constant)
    if not isinstance(fields, dict) or len(fields) > 1:
        raise ValueError(f"it is {quote(fields)}")
    key, value = next(iter(fields.items()), ("value", None))
    if key not in ("value", "repr", "error") or (key != "value" and not isinstance(value, str)):
        raise ValueError(f"it is {quote(fields)}")
    return key, value


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"JSON has no number {text}")


def _make_broken(reply: Reply, error: str) -> Evaluation:
    """Return the evaluation of code after which the driver no longer answers."""
    return Evaluation(stdout=reply.stdout, stderr=reply.stderr, error=error, ending=Ending.STOPPED)
