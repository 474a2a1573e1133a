"""A process of its own that lets Binaryen instrument one module, and ends: it imports nothing of
the journal, and is run as a script.

Binaryen ends its process when it cannot go on, and a module may be hostile to it: so it gets
limits for memory, time and output, and dies with whoever started it.
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
"""How large the memory is that a stack is unwound into: 32 MiB."""

_ARGUMENTS = {
    "asyncify-in-secondary-memory": "1",
    "asyncify-secondary-memory-size": str(STACK_MEMORY_PAGES),
}
REVISION = 1
"""Raised by one whenever the same module is made into something else than before."""

# benchmarks/stacks.py is what these were chosen by. What follows asyncify makes the interpreter of
# QuickJS twice as fast as asyncify leaves it. To optimize all code before helps what the library
# makes of C and of QuickJS; where a newer wasm-opt does that, QuickJS becomes slower.
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
"""What a module may use, by its names in binaryen-c.h and in the options of wasm-opt."""

_OUTPUT_SIZE_MAX = 1 << 30
_CORES_MAX = 8
_PR_SET_PDEATHSIG = 1
_OOM_SCORE_MAX = "1000"


class AsyncifyTask(NamedTuple):
    """What is to be done: with a library (else a program), from a file to a file.

    ``parent`` is the process that waits for it.
    """

    tool: str
    is_library: bool
    source: str
    target: str
    seconds_max: int
    memory_size_max: int
    parent: int


def worker_command(task: AsyncifyTask) -> list[str]:
    """What runs a task: without the site's modules, which take longer to load than all this."""
    return [sys.executable, "-I", "-S", __file__, json.dumps(task)]


def _main() -> None:
    task = AsyncifyTask(*json.loads(sys.argv[1]))
    _exit_with_parent(task.parent)
    _set_limits(task)
    if task.is_library:
        _run_library(task)
    else:
        os.execv(task.tool, _program_command(task))


def _exit_with_parent(parent: int) -> None:
    with suppress(AttributeError, OSError):  # elsewhere than on Linux, it outlives a parent killed
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("who asked for it is gone")


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
        with suppress(ValueError, OSError):  # a system that does not have this limit
            resource.setrlimit(kind, (value, value))
    # Each of its threads takes address space: as many as the limit was chosen for.
    os.environ["BINARYEN_CORES"] = str(cores)
    with suppress(OSError):  # where memory ends, it is this process that goes
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE_MAX)


def _program_command(task: AsyncifyTask) -> list[str]:
    """The command line of wasm-opt."""
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
    """The same as with wasm-opt, through the functions of binaryen-c.h."""
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
    written = library.BinaryenModuleAllocateAndWrite(module, None)
    Path(task.target).write_bytes(ctypes.string_at(written.binary, written.size))


if __name__ == "__main__":
    _main()
