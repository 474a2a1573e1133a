"""Worker process that instruments one module with Binaryen and exits.

It is run as a script, or imported from a zip archive, and imports nothing of journal. Binaryen
aborts its process on errors, and a module may be hostile to Binaryen. The process therefore has
limits for memory, time and output, and dies with its parent.
"""

import ctypes
import json
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

STACK_MEMORY_PAGES = 512
"""Size in pages of the memory that receives an unwound stack: 32 MiB."""

_ARGUMENTS = {
    "asyncify-in-secondary-memory": "1",
    "asyncify-secondary-memory-size": str(STACK_MEMORY_PAGES),
}
REVISION = 1
"""Revision of the instrumentation. It increases by one whenever the output for a module changes."""

# These passes and levels were chosen with benchmarks/stacks.py. The passes after asyncify make the
# interpreter of QuickJS twice as fast. Optimizing all code before asyncify makes the output of the
# library faster for C and QuickJS, but makes QuickJS slower with a newer wasm-opt.
_PASSES = ("asyncify", "simplify-locals", "vacuum", "reorder-locals")
_LIBRARY_LEVEL, _PROGRAM_LEVEL = 3, 2

_FEATURES = {
    "BulkMemory": "bulk-memory",
    "ExtendedConst": "extended-const",
    "MultiMemory": "multimemory",
    "Multivalue": "multivalue",
    "MutableGlobals": "mutable-globals",
    "NontrappingFPToInt": "nontrapping-float-to-int",
    "ReferenceTypes": "reference-types",
    "RelaxedSIMD": "relaxed-simd",
    "SIMD128": "simd",
    "SignExt": "sign-ext",
}
"""WebAssembly features that a module may use: name in binaryen-c.h and in the options of wasm-opt.
"""

_OUTPUT_SIZE_MAX = 1 << 30
_CORES_MAX = 8
_PR_SET_PDEATHSIG = 1
_OOM_SCORE_MAX = "1000"


_IMPORT_CODE = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[2]);"
    "from journal.engine.program.asyncify_worker import main; main()"
)


class AsyncifyTask(NamedTuple):
    """A task for the worker: tool, source file, target file and limits.

    ``is_library`` is false for a program. ``parent`` is the process that waits for the worker.
    """

    tool: str
    is_library: bool
    source: str
    target: str
    seconds_max: int
    memory_size_max: int
    parent: int


def make_worker_command(interpreter: str, task: AsyncifyTask) -> list[str]:
    """Return the command that runs a task. Options -I and -S skip site modules, which take longer
    to load than the rest.
    """
    options, text = [interpreter, "-I", "-S"], json.dumps(task)
    if Path(__file__).is_file():
        return [*options, __file__, text]
    return [*options, "-c", _IMPORT_CODE, text, json.dumps(sys.path)]  # The file is in an archive.


def main() -> None:
    """Run the task in the arguments of this process."""
    task = AsyncifyTask(*json.loads(sys.argv[1]))
    _exit_with_parent(task.parent)
    _set_limits(task)
    if task.is_library:
        _run_library(task)
    else:
        os.execv(task.tool, _program_command(task))


def _exit_with_parent(parent: int) -> None:
    # On systems other than Linux, the worker outlives a killed parent.
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the parent process has exited")


def _set_limits(task: AsyncifyTask) -> None:
    cores = min(os.cpu_count() or 1, _CORES_MAX)
    limits = {
        resource.RLIMIT_AS: task.memory_size_max,
        resource.RLIMIT_CPU: task.seconds_max * cores,
        resource.RLIMIT_FSIZE: _OUTPUT_SIZE_MAX,
        resource.RLIMIT_CORE: 0,
    }
    for kind, limit in limits.items():
        hard = resource.getrlimit(kind)[1]
        value = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        with suppress(ValueError, OSError):  # The system may not have this limit.
            resource.setrlimit(kind, (value, value))
    # Each Binaryen thread takes address space. The memory limit allows for this many threads.
    os.environ["BINARYEN_CORES"] = str(cores)
    with suppress(OSError):  # If memory runs out, the kernel kills this process first.
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE_MAX)


def _program_command(task: AsyncifyTask) -> list[str]:
    """Return the command line of wasm-opt."""
    return [
        *(task.tool, task.source, "-o", task.target, "--quiet", "--debuginfo"),
        *(f"--enable-{feature}" for feature in _FEATURES.values()),
        *(f"--optimize-level={_PROGRAM_LEVEL}", "--shrink-level=0"),
        *(f"--pass-arg={name}@{value}" for name, value in _ARGUMENTS.items()),
        *(f"--{name}" for name in _PASSES),
    ]


class _LibraryOutput(ctypes.Structure):
    _fields_ = (
        ("binary", ctypes.c_void_p),
        ("size", ctypes.c_size_t),
        ("source_map", ctypes.c_char_p),
    )


def _run_library(task: AsyncifyTask) -> None:
    """Run the same passes as wasm-opt through the functions of binaryen-c.h."""
    library = ctypes.CDLL(task.tool)
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    library.BinaryenModuleRead.restype = pointer
    library.BinaryenModuleRead.argtypes = [text, ctypes.c_size_t]
    library.BinaryenModuleSetFeatures.argtypes = [pointer, ctypes.c_uint32]
    library.BinaryenModuleOptimize.argtypes = [pointer]
    library.BinaryenModuleRunPasses.argtypes = [pointer, ctypes.POINTER(text), ctypes.c_uint32]
    library.BinaryenModuleAllocateAndWrite.argtypes = [pointer, text]
    library.BinaryenModuleAllocateAndWrite.restype = _LibraryOutput
    library.BinaryenSetPassArgument.argtypes = [text, text]
    source = Path(task.source).read_bytes()
    module = library.BinaryenModuleRead(source, len(source))
    features = (getattr(library, f"BinaryenFeature{name}")() for name in _FEATURES)
    library.BinaryenModuleSetFeatures(module, sum(features))
    library.BinaryenSetOptimizeLevel(_LIBRARY_LEVEL)
    library.BinaryenSetShrinkLevel(0)
    library.BinaryenSetDebugInfo(True)
    for name, value in _ARGUMENTS.items():
        library.BinaryenSetPassArgument(name.encode(), value.encode())
    library.BinaryenModuleOptimize(module)
    passes = (text * len(_PASSES))(*(name.encode() for name in _PASSES))
    library.BinaryenModuleRunPasses(module, passes, len(passes))
    output = library.BinaryenModuleAllocateAndWrite(module, None)
    Path(task.target).write_bytes(ctypes.string_at(output.binary, output.size))


if __name__ == "__main__":
    main()
