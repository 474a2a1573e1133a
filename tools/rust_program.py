"""Build `fixtures/programs/lines.wasm` with the Rust of Debian bookworm, or check its bytes.

`python tools/rust_program.py` fetches the compiler as Debian packages into `.cache/rust`, unpacks
them there without installing them, and builds the program. With `--check` it compares the result
with the committed program instead. It needs apt-get and dpkg-deb on amd64.
"""

from __future__ import annotations

import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "fixtures" / "programs" / "lines.rs"
PROGRAM = SOURCE.with_suffix(".wasm")
#: SHA-256 of the source and of the program that was built from it.
HASHES = (
    "c2923b9e6e5078e9569d371233fc7201371af75a6f975dd774ad6ab7f0bf535e",
    "c172cd7a74769462e8c25decfd1339e30fffab295d43a7c8e3c1c44d617a52e0",
)
FOLDER = ROOT / ".cache" / "rust"
PACKAGES = {
    "rustc": "1.63.0+dfsg1-2",
    "libstd-rust-1.63": "1.63.0+dfsg1-2",
    "libstd-rust-dev": "1.63.0+dfsg1-2",
    "libstd-rust-dev-wasm32": "1.63.0+dfsg1-2",
    "libllvm14": "1:14.0.6-12",
    "lld-14": "1:14.0.6-12",
}
FLAGS = (
    *("--target", "wasm32-wasi", "-C", "opt-level=s", "-C", "lto=yes", "-C", "panic=abort"),
    *("-C", "strip=symbols", "--remap-path-prefix", f"{ROOT}=."),
)


def unpack() -> Path:
    """Return the directory of the unpacked compiler. The first call downloads it."""
    tree = FOLDER / "tree"
    if not (tree / "usr" / "bin" / "rustc").exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        names = [f"{name}={version}" for name, version in PACKAGES.items()]
        subprocess.run(["apt-get", "download", "-q", *names], cwd=FOLDER, check=True)
        for package in FOLDER.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, tree], check=True)
            package.unlink()
    return tree / "usr"


def build(target: Path) -> None:
    """Build the program from its source."""
    compiler = unpack()
    libraries = f"{compiler}/lib/x86_64-linux-gnu:{compiler}/lib"
    command = [f"{compiler}/bin/rustc", "--sysroot", str(compiler), *FLAGS, "-o", str(target)]
    command += ["-C", f"linker={compiler}/lib/llvm-14/bin/wasm-ld", str(SOURCE)]
    subprocess.run(command, env=os.environ | {"LD_LIBRARY_PATH": libraries}, check=True)
    target.chmod(0o644)


def compute_hashes() -> tuple[str, str]:
    """Return the SHA-256 of the source and of the program."""
    source, program = (sha256(path.read_bytes()).hexdigest() for path in (SOURCE, PROGRAM))
    return source, program


def main() -> None:
    """Build the program, or compare it with a new build."""
    if sys.argv[1:] == ["--check"]:
        built = FOLDER / "lines.wasm"
        build(built)
        if built.read_bytes() != PROGRAM.read_bytes():
            sys.exit("lines.wasm does not match its source; run tools/rust_program.py")
        print("lines.wasm matches its source")
    else:
        build(PROGRAM)
        print(f"built {PROGRAM.name}; its hashes are {', '.join(compute_hashes())}")


if __name__ == "__main__":
    main()
