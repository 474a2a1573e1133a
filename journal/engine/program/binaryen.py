"""Discovery of installed Binaryen tools, and runs of a tool in a worker process."""

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

from journal._platform import find_interpreter
from journal.engine.program import asyncify_worker
from journal.errors import EngineError

VERSION_MIN = 116
"""First version that unwinds into a separate memory."""

_LIBRARY_PACKAGE, _PROGRAM = "icpp_binaryen", "wasm-opt"
_LIBRARY_NAME = "icpp-binaryen"
_LIBRARIES = ("libbinaryen.so", "libbinaryen.dylib")
_VERSION_SECONDS_MAX = 10
_OUTPUT_SIZE_MAX = 4096
_REASON_SIZE_MAX = 200
_EXPLANATIONS = {
    "does not yet support non-number types": "a function holds a reference while it calls another",
    "block cannot pop from outside": "a block takes values from outside the block",
    "std::bad_alloc": "instrumentation exceeds the memory limit",
}
"""Explanations of some of Binaryen's messages."""


class NotInstrumentable(EngineError):
    """A module cannot be instrumented, or no tool is installed."""


class InstrumentTimeout(NotInstrumentable):
    """Instrumentation exceeded its time limit."""


class BinaryenTool(NamedTuple):
    """A Binaryen tool: ``name`` is its name in journals, ``path`` a library or the program
    wasm-opt.
    """

    version: int
    is_library: bool
    name: str
    path: Path


def list_tools() -> list[BinaryenTool]:
    """Return the usable tools, newest version first, and the library before wasm-opt."""
    return sorted(_iter_installed(), reverse=True)


def find_tool(path: Path) -> BinaryenTool:
    """Return the wasm-opt at a path; raises NotInstrumentable."""
    try:
        command = [str(path.absolute()), "--version"]
        output = subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL, timeout=_VERSION_SECONDS_MAX
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise NotInstrumentable(f"cannot run {path}: {error}") from None
    match = re.match(rb"wasm-opt version (\d{1,6})\b", output.stdout)
    if match is None:
        raise NotInstrumentable(f"{path} is not Binaryen's wasm-opt")
    version = int(match[1])
    if version < VERSION_MIN:
        raise NotInstrumentable(
            f"{path} is version {version}; version {VERSION_MIN} or later is required"
        )
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
    for output in package.parent.glob(f"{_LIBRARY_PACKAGE}-*.dist-info"):
        version = output.name.removeprefix(f"{_LIBRARY_PACKAGE}-").partition(".")[0]
        for path in (package / "lib" / name for name in _LIBRARIES):
            if path.exists() and version.isdecimal() and int(version) >= VERSION_MIN:
                yield BinaryenTool(int(version), True, f"{_LIBRARY_NAME} {version}", path)


def run_asyncify(
    module: bytes, tool: BinaryenTool, seconds_max: float, memory_size_max: int
) -> bytes:
    """Return the instrumented module; raises NotInstrumentable."""
    interpreter = find_interpreter()
    if interpreter is None:
        raise NotInstrumentable(
            "a frozen program has no Python interpreter for the worker: "
            "embed a module instrumented elsewhere, or record without stacks"
        )
    try:
        with tempfile.TemporaryDirectory(prefix="journal-") as folder:
            source, target = Path(folder, "source.wasm"), Path(folder, "target.wasm")
            source.write_bytes(module)
            task = asyncify_worker.AsyncifyTask(
                tool=str(tool.path),
                is_library=tool.is_library,
                source=str(source),
                target=str(target),
                seconds_max=max(1, round(seconds_max)),
                memory_size_max=memory_size_max,
                parent=os.getpid(),
            )
            output = Path(folder, "output")
            command = asyncify_worker.make_worker_command(interpreter, task)
            code = _run(command, output, Path(folder), seconds_max)
            if code != 0:
                raise NotInstrumentable(_failure_reason(tool, code, _read_tail(output)))
            return target.read_bytes()
    except OSError as error:
        raise NotInstrumentable(f"cannot run {tool.name}: {error}") from error


def _run(command: list[str], output: Path, folder: Path, seconds_max: float) -> int:
    """Run a command and return its exit code. The command and its children have then ended."""
    with output.open("wb") as stream:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            cwd=folder,
            start_new_session=True,
        )
    try:
        return process.wait(seconds_max)
    except subprocess.TimeoutExpired:
        raise InstrumentTimeout(f"instrumentation took longer than {seconds_max:g} s") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _read_tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _OUTPUT_SIZE_MAX))
        return file.read().decode(errors="replace")


def _failure_reason(tool: BinaryenTool, code: int, output: str) -> str:
    """Return one sentence about why the tool failed."""
    for pattern, explanation in _EXPLANATIONS.items():
        if pattern in output:
            return f"{tool.name} cannot instrument the module: {explanation}"
    parse_error = re.search(r"parse exception: (.{1,200}?) \(at", output)
    if parse_error is not None and parse_error[1].isprintable():
        return f"{tool.name} cannot read the module: {parse_error[1]}"
    lines = [line for line in output.splitlines() if line.strip()]
    if lines:
        last = "".join(char if char.isprintable() else "?" for char in lines[-1].strip())
        return f"{tool.name} cannot instrument the module: {last[:_REASON_SIZE_MAX]}"
    if code < 0:
        with suppress(ValueError):
            signal_name = signal.Signals(-code).name
            return f"{tool.name} was killed by {signal_name} while instrumenting the module"
    return f"{tool.name} failed with exit code {code} while instrumenting the module"
