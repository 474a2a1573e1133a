"""Binaryen: which ones are installed, and one of them at work in a process of its own."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from journal.engine.program import asyncify_worker as asyncifying
from journal.errors import EngineError

VERSION_MIN = 116
"""The first that unwinds into a memory of its own."""

_LIBRARY_PACKAGE, _PROGRAM = "icpp_binaryen", "wasm-opt"
_LIBRARY_NAME = "icpp-binaryen"
_LIBRARIES = ("libbinaryen.so", "libbinaryen.dylib")
_ASKING_SECONDS_MAX = 10
_SAID_SIZE_MAX = 4096
_REASON_SIZE_MAX = 200
_MEANINGS = {
    "does not yet support non-number types": "a function holds a reference while it calls another",
    "block cannot pop from outside": "a block takes values from outside of it",
    "std::bad_alloc": "it takes more memory than is allowed",
}
"""What some of its sentences mean to who has the module."""


class NotInstrumentable(EngineError):
    """A module cannot be instrumented, or there is nothing that does it."""


class TookTooLong(NotInstrumentable):
    """The time for it was over."""


class Tool(NamedTuple):
    """A Binaryen: ``name`` is what journals call it, ``path`` a library or the program wasm-opt."""

    version: int
    is_library: bool
    name: str
    path: Path


def tools() -> list[Tool]:
    """Those that can be used, the newest first; of two that are equal, the library."""
    return sorted(_installed(), reverse=True)


def tool_at(path: Path) -> Tool:
    """The wasm-opt at a path; raises NotInstrumentable."""
    try:
        command = [str(path.absolute()), "--version"]
        said = subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL, timeout=_ASKING_SECONDS_MAX
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise NotInstrumentable(f"{path} cannot be used: {error}") from None
    found = re.match(rb"wasm-opt version (\d{1,6})\b", said.stdout)
    if found is None:
        raise NotInstrumentable(f"{path} is not Binaryen's wasm-opt")
    version = int(found[1])
    if version < VERSION_MIN:
        raise NotInstrumentable(f"{path} has version {version}, and {VERSION_MIN} is needed")
    return Tool(version, False, f"{_PROGRAM} {version}", path.absolute())


def _installed() -> Iterator[Tool]:
    program = shutil.which(_PROGRAM)
    if program is not None:
        with suppress(NotInstrumentable):
            yield tool_at(Path(program))
    spec = find_spec(_LIBRARY_PACKAGE)
    if spec is None or spec.origin is None:
        return
    package = Path(spec.origin).parent
    for said in package.parent.glob(f"{_LIBRARY_PACKAGE}-*.dist-info"):
        version = said.name.removeprefix(f"{_LIBRARY_PACKAGE}-").partition(".")[0]
        for path in (package / "lib" / name for name in _LIBRARIES):
            if path.exists() and version.isdecimal() and int(version) >= VERSION_MIN:
                yield Tool(int(version), True, f"{_LIBRARY_NAME} {version}", path)


def asyncified(module: bytes, tool: Tool, seconds_max: float, memory_size_max: int) -> bytes:
    """What Binaryen makes of a module; raises NotInstrumentable."""
    try:
        with tempfile.TemporaryDirectory(prefix="journal-") as folder:
            source, target = Path(folder, "source.wasm"), Path(folder, "target.wasm")
            source.write_bytes(module)
            task = asyncifying.Task(
                tool=str(tool.path),
                is_library=tool.is_library,
                source=str(source),
                target=str(target),
                seconds_max=max(1, round(seconds_max)),
                memory_size_max=memory_size_max,
                parent=os.getpid(),
            )
            said = Path(folder, "said")
            code = _run(asyncifying.command(task), said, Path(folder), seconds_max)
            if code != 0:
                raise NotInstrumentable(_reason(tool, code, _tail(said)))
            return target.read_bytes()
    except OSError as error:
        raise NotInstrumentable(f"{tool.name} cannot be run: {error}") from error


def _run(command: list[str], said: Path, folder: Path, seconds_max: float) -> int:
    """Run a command to its end; it and what it started are gone when this returns or raises."""
    with said.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder,
            start_new_session=True,
        )
    try:
        return process.wait(seconds_max)
    except subprocess.TimeoutExpired:
        raise TookTooLong(f"it took longer than {seconds_max:g} s") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _SAID_SIZE_MAX))
        return file.read().decode(errors="replace")


def _reason(tool: Tool, code: int, said: str) -> str:
    """One sentence about why it ended as it did."""
    for sign, meaning in _MEANINGS.items():
        if sign in said:
            return f"{tool.name} cannot instrument it: {meaning}"
    unread = re.search(r"parse exception: (.{1,200}?) \(at", said)
    if unread is not None and unread[1].isprintable():
        return f"{tool.name} cannot read it: {unread[1]}"
    lines = [line for line in said.splitlines() if line.strip()]
    if lines:
        last = "".join(char if char.isprintable() else "?" for char in lines[-1].strip())
        return f"{tool.name} cannot instrument it: {last[:_REASON_SIZE_MAX]}"
    if code < 0:
        with suppress(ValueError):
            return f"{tool.name} was ended by {signal.Signals(-code).name} over it"
    return f"{tool.name} ended with {code} over it"
