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
_VERSION_SECONDS_MAX = 10
_OUTPUT_SIZE_MAX = 4096
_REASON_SIZE_MAX = 200
_EXPLANATIONS = {
    "does not yet support non-number types": "a function holds a reference while it calls another",
    "block cannot pop from outside": "a block takes values from outside of it",
    "std::bad_alloc": "it takes more memory than is allowed",
}
"""What some of its sentences mean to who has the module."""


class NotInstrumentable(EngineError):
    """A module cannot be instrumented, or there is nothing that does it."""


class InstrumentTimeout(NotInstrumentable):
    """The time for it was over."""


class BinaryenTool(NamedTuple):
    """A Binaryen: ``name`` is what journals call it, ``path`` a library or the program wasm-opt."""

    version: int
    is_library: bool
    name: str
    path: Path


def list_tools() -> list[BinaryenTool]:
    """Those that can be used, the newest first; of two that are equal, the library."""
    return sorted(_iter_installed(), reverse=True)


def find_tool(path: Path) -> BinaryenTool:
    """The wasm-opt at a path; raises NotInstrumentable."""
    try:
        command = [str(path.absolute()), "--version"]
        said = subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL, timeout=_VERSION_SECONDS_MAX
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise NotInstrumentable(f"{path} cannot be used: {error}") from None
    found = re.match(rb"wasm-opt version (\d{1,6})\b", said.stdout)
    if found is None:
        raise NotInstrumentable(f"{path} is not Binaryen's wasm-opt")
    version = int(found[1])
    if version < VERSION_MIN:
        raise NotInstrumentable(f"{path} has version {version}, and {VERSION_MIN} is needed")
    return BinaryenTool(version, False, f"{_PROGRAM} {version}", path.absolute())


def _iter_installed() -> Iterator[BinaryenTool]:
    program = shutil.which(_PROGRAM)
    if program is not None:
        with suppress(NotInstrumentable):
            yield find_tool(Path(program))
    spec = find_spec(_LIBRARY_PACKAGE)
    if spec is None or spec.origin is None:
        return
    package = Path(spec.origin).parent
    for said in package.parent.glob(f"{_LIBRARY_PACKAGE}-*.dist-info"):
        version = said.name.removeprefix(f"{_LIBRARY_PACKAGE}-").partition(".")[0]
        for path in (package / "lib" / name for name in _LIBRARIES):
            if path.exists() and version.isdecimal() and int(version) >= VERSION_MIN:
                yield BinaryenTool(int(version), True, f"{_LIBRARY_NAME} {version}", path)


def run_asyncify(
    module: bytes, tool: BinaryenTool, seconds_max: float, memory_size_max: int
) -> bytes:
    """What Binaryen makes of a module; raises NotInstrumentable."""
    try:
        with tempfile.TemporaryDirectory(prefix="journal-") as folder:
            source, target = Path(folder, "source.wasm"), Path(folder, "target.wasm")
            source.write_bytes(module)
            task = asyncifying.AsyncifyTask(
                tool=str(tool.path),
                is_library=tool.is_library,
                source=str(source),
                target=str(target),
                seconds_max=max(1, round(seconds_max)),
                memory_size_max=memory_size_max,
                parent=os.getpid(),
            )
            said = Path(folder, "said")
            code = _run(asyncifying.worker_command(task), said, Path(folder), seconds_max)
            if code != 0:
                raise NotInstrumentable(_failure_reason(tool, code, _read_tail(said)))
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
        raise InstrumentTimeout(f"it took longer than {seconds_max:g} s") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _read_tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _OUTPUT_SIZE_MAX))
        return file.read().decode(errors="replace")


def _failure_reason(tool: BinaryenTool, code: int, said: str) -> str:
    """One sentence about why it ended as it did."""
    for sign, meaning in _EXPLANATIONS.items():
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
