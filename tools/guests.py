"""Build the guest programs of `fixtures/guests/`, or check them against their sources.

`python tools/guests.py [NAME...]` builds the named guests, or all. `--check` compares the hashes of
sources and programs with the manifest. If the same compiler is installed, it also rebuilds the
programs and compares every byte.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "fixtures" / "guests"
MANIFEST = FOLDER / "manifest.json"
COMPILER = "0.17.0"
FLAGS = ["-target", "wasm32-wasi", "-O2", "-s", "-Wall", "-Wextra", "-Werror"]

#: Additional compiler flags of some guests.
OWN_FLAGS = {
    "bulk": ["-mbulk-memory"],
    "jumps": [
        *("-mexception-handling", "-mllvm", "-wasm-enable-sjlj"),
        *("-mllvm", "-wasm-use-legacy-eh=false", "-lsetjmp"),
    ],
    "simd": ["-msimd128"],
}

_SAY_WAT_USERS = (
    *("dropped", "elements", "globals", "memories", "references", "segments", "start", "tables"),
    "tails",
)
PARTS = {
    "families": ["families.c", "families_say.c", "families_fd.c", "families_path.c"],
    "jumps": ["jumps.c", "jumps_tag.S"],
    **{name: ["say.wat", f"{name}.wat"] for name in _SAY_WAT_USERS},
}
_SAY_H_USERS = (
    *("bulk", "clocks", "computing", "deep", "environ", "growing", "heap64", "jumps", "pointers"),
    *("prompt", "simd", "sleeper", "stdin"),
)
_CALLS = ("epoll", "fd", "port", "proc", "signal", "sock")
_WASIX_HEADERS = ("wasi.h", "wasix.h", "wasix_calls.h")
HEADERS = {
    **{f"calls_{name}": ["calls.h", *_WASIX_HEADERS] for name in _CALLS},
    "editor": [*_WASIX_HEADERS],
    "kv": ["kv.h", *_WASIX_HEADERS],
    "kv_client": ["kv.h", *_WASIX_HEADERS],
    "processes": [*_WASIX_HEADERS],
    "shell": [*_WASIX_HEADERS],
    "signals": [*_WASIX_HEADERS],
    "families": ["families.h", "wasi.h"],
    "faults": ["wasi.h"],
    "escape": ["wasi.h"],
    "sleepy": ["wasi.h"],
    "dirfds": ["say.h", "wasi.h"],
    "high": ["say.h", "wasi.h"],
    "explicit": ["say.h", "wasix.h"],
    "listen": ["say.h", "wasix.h"],
    **{name: ["say.h"] for name in _SAY_H_USERS},
}


def guests() -> dict[str, list[str]]:
    """Return the sources of each guest by its name."""
    parts = {part for files in PARTS.values() for part in files}
    sources = {path.stem: [path.name] for path in FOLDER.glob("*.c") if path.name not in parts}
    sources |= {path.stem: [path.name] for path in FOLDER.glob("*.wat") if path.name not in parts}
    return dict(sorted((sources | PARTS).items()))


def _hash_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _build(name: str, sources: list[str], folder: Path) -> Path:
    target = folder / f"{name}.wasm"
    if sources[0].endswith(".wat"):
        import wasmtime

        text = "".join((FOLDER / source).read_text() for source in sources)
        target.write_bytes(wasmtime.wat2wasm(text))
        return target
    environment = os.environ | {"ZIG_GLOBAL_CACHE_DIR": str(ROOT / ".cache" / "zig")}
    command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, *OWN_FLAGS.get(name, [])]
    command += [*sources, "-o", str(target)]
    if subprocess.run(command, cwd=FOLDER, env=environment, check=False).returncode:
        sys.exit(f"{name} does not compile")
    target.chmod(0o644)
    return target


def _describe(sources: dict[str, list[str]]) -> dict[str, Any]:
    descriptions = {}
    for name, files in sources.items():
        parts = [*files, *HEADERS.get(name, [])]
        descriptions[name] = {
            "sources": {part: _hash_of(FOLDER / part) for part in parts},
            "program": _hash_of(FOLDER / f"{name}.wasm"),
        }
    return {
        "compiler": f"ziglang {COMPILER}",
        "flags": FLAGS,
        "own": OWN_FLAGS,
        "guests": descriptions,
    }


def _has_compiler() -> bool:
    try:
        return importlib.util.find_spec("ziglang") is not None and version("ziglang") == COMPILER
    except PackageNotFoundError:
        return False


def _can_build(sources: list[str]) -> bool:
    if sources[0].endswith(".wat"):
        return importlib.util.find_spec("wasmtime") is not None
    return _has_compiler()


def build(names: list[str]) -> None:
    """Build the named guests, or all, and write the manifest."""
    if not _has_compiler():
        sys.exit(f"the compiler is missing: run pip install ziglang=={COMPILER}")
    sources = guests()
    for name in names or sources:
        _build(name, sources[name], FOLDER)
        print(f"built {name}.wasm")
    MANIFEST.write_text(json.dumps(_describe(sources), indent=2) + "\n")


def check() -> None:
    """Exit with an error message if a guest does not match its sources."""
    sources = guests()
    missing = [name for name in sources if not (FOLDER / f"{name}.wasm").exists()]
    if missing:
        sys.exit(f"{missing[0]}.wasm is missing; run `make guests`")
    if json.loads(MANIFEST.read_text()) != _describe(sources):
        sys.exit("the guests do not match their sources; run `make guests`")
    built = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, files in sources.items():
            if not _can_build(files):
                continue
            built += 1
            if _hash_of(_build(name, files, Path(folder))) != _hash_of(FOLDER / f"{name}.wasm"):
                sys.exit(f"{name}.wasm does not match its sources; run `make guests`")
    print(f"{len(sources)} guests match their sources; {built} of them were also rebuilt")


if __name__ == "__main__":
    check() if "--check" in sys.argv[1:] else build(sys.argv[1:])
