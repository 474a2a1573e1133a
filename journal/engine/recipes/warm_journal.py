"""Journal of a warm interpreter: recorded once, up to the moment at which it waits for code.

The journal ends with a snapshot of that moment. It names what it was made of by a hash in the
guest's environment, so that it is made again only after a change.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from journal._arguments import quote, to_line
from journal._version import VERSION
from journal.engine.configuration import (
    ENGINE_NAME,
    HOST_REVISION,
    Configuration,
    SnapshotOptions,
    Stacks,
    get_platform,
)
from journal.engine.program.variant import Notify
from journal.engine.recipes import driver_protocol
from journal.engine.recipes.evaluation import Evaluation
from journal.engine.runtime import bindings
from journal.engine.session.api import record
from journal.engine.session.recorder import Recorder
from journal.engine.session.reply import Ending, Reply
from journal.engine.wasi.filesystem.mounts import FileCopy, MemoryMount
from journal.engine.wasi.stdio.outbox import Durability
from journal.errors import JournalError, OptionError
from journal.events import codec
from journal.events.process import ProcessStart
from journal.events.snapshots import Trigger
from journal.fs import atomic_file
from journal.log.reader import Reader
from journal.rewrite.progress import ProgressCallback, report_phase

WORK_DIRECTORY = "/work"
"""Directory in which code runs, and whose files are returned."""
PACKAGE_DIRECTORY = "/packages"
"""Directory from which the Python sandbox imports modules."""
WARM_UP_PHASE = "warming up the interpreter"
"""Name of the phase in which the interpreter starts and runs its setup."""

_VARIABLE = "JOURNAL_SANDBOX"
_MOUNTS = (MemoryMount("/"), MemoryMount(WORK_DIRECTORY))
_VALUE_SIZE_MAX = 1 << 16
_POLL_SECONDS = 0.005
_REPLY_END = b"\n"
_MESSAGE_SIZE_MAX = 100


@dataclass(frozen=True, slots=True)
class WarmProgram:
    """Interpreter of a sandbox, and what it does before its snapshot.

    ``setup`` is code that must succeed. ``warm_up`` is code whose results do not matter: it fills
    the caches of the interpreter.
    """

    module: bytes
    arguments: tuple[str, ...]
    setup: str
    warm_up: tuple[str, ...]
    copies: tuple[FileCopy, ...]
    configuration: Configuration

    def compute_digest(self) -> str:
        """Return a hash of everything in the recipe of the journal, and of the engine."""
        parts = [
            hashlib.sha256(self.module).hexdigest(),
            [*self.arguments, self.setup, *self.warm_up],
            [[copy.guest, *hash_files(Path(copy.host))] for copy in self.copies],
            self.configuration.to_pairs(),
            [VERSION, ENGINE_NAME, bindings.VERSION, HOST_REVISION, get_platform()],
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def hash_files(host: Path) -> Iterator[tuple[str, str]]:
    """Yield the relative path and the SHA-256 of a file, or of each file in a directory."""
    paths = sorted(host.rglob("*")) if host.is_dir() else [host]
    for path in paths:
        if path.is_file():
            with path.open("rb") as file:
                yield str(path.relative_to(host)), hashlib.file_digest(file, "sha256").hexdigest()


def ensure_warm_journal(
    path: Path,
    program: WarmProgram,
    cache: Path | None,
    note: Notify,
    progress: ProgressCallback,
) -> bool:
    """Make the journal of a warm interpreter at ``path``, and return whether it was made now.

    A journal that was made of the same program is kept. An older one is replaced atomically, so
    that processes which use it go on. Raises ``OptionError`` if ``path`` is anything else, or if
    the setup fails.
    """
    try:
        digest = program.compute_digest()
    except OSError as error:
        raise OptionError(f"a file to copy cannot be read: {error}") from error
    if _read_digest(path) == digest:
        return False
    temporary = atomic_file.make_temporary_path(path)
    try:
        with report_phase(progress, WARM_UP_PHASE):
            _record(temporary, program, digest, cache, note)
        temporary.replace(path)
        atomic_file.sync_directory(path.parent)
    except OSError as error:
        reason = error.strerror or error
        raise OptionError(f"{to_line(str(path))} cannot be written: {reason}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()
    return True


def _read_digest(path: Path) -> str | None:
    """Return the hash in the journal of a warm interpreter; None if ``path`` does not exist."""
    if not os.path.lexists(path):
        return None
    with suppress(JournalError), Reader(path) as reader:
        for frame in reader.frames():
            start = codec.decode(frame.tag, frame.payload, frame.offset)
            if isinstance(start, ProcessStart):
                for entry in start.environment:
                    name, _, value = entry.partition(b"=")
                    if name == _VARIABLE.encode():
                        return value.decode("ascii", "replace")
            break
    raise OptionError(
        f"{to_line(str(path))} exists and is not the journal of a sandbox: choose another path"
    )


def _record(
    path: Path, program: WarmProgram, digest: str, cache: Path | None, note: Notify
) -> None:
    with record(
        program.module,
        path,
        args=program.arguments,
        env={_VARIABLE: digest},
        mounts=_MOUNTS,
        copies=program.copies,
        configuration=program.configuration,
        cache=cache,
        durability=Durability.INTERVAL,
        snapshots=SnapshotOptions(
            on=frozenset({Trigger.EXPLICIT}), stacks=Stacks.ALWAYS, stop_after=True
        ),
        note=note,
    ) as guest:
        result = _evaluate(guest, "<setup>", program.setup)
        if result.error:
            # Python has its message below the traceback, and QuickJS above it.
            message = [line for line in result.error.splitlines() if line and line[0] != " "][-1]
            raise OptionError(f"the setup of the sandbox failed: {to_line(message)}")
        for code in program.warm_up:
            _evaluate(guest, "<warm-up>", code)
        if guest.snapshot() is None:
            raise OptionError("the interpreter ended during its warm-up")
        guest.wait()


def _evaluate(guest: Recorder, name: str, code: str) -> Evaluation:
    """Evaluate code in a recorded guest."""
    nonce, start, error_start = driver_protocol.make_nonce(), len(guest.stdout), len(guest.stderr)
    guest.feed(driver_protocol.encode_request(nonce, None, _VALUE_SIZE_MAX, name, code))
    mark = nonce.encode()
    while True:
        result = guest.wait(timeout_seconds=_POLL_SECONDS)
        stdout, stderr = guest.stdout[start:], guest.stderr[error_start:]
        if result is not None:
            raise OptionError(
                f"the interpreter ended during its setup ({result.kind.value}): "
                f"{quote(stderr[-_MESSAGE_SIZE_MAX:])}"
            )
        if mark in stdout and stdout.endswith(_REPLY_END):
            reply = Reply(Ending.WAITING, stdout, stderr)
            return driver_protocol.decode_reply(reply, nonce, _VALUE_SIZE_MAX)
