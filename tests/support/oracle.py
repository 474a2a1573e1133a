"""Oracle of the host: runs a module under wasmtime's own WASI, in another process.

`run_with_wasmtime` is for tests; `python -m tests.support.oracle` is the process it starts.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import wasmtime

ROOT = Path(__file__).resolve().parents[2]
TRAP_CODE = 134
"""Exit code of the process if the guest traps, as a shell reports an aborted program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Exit code and output of a program."""

    code: int
    stdout: bytes
    stderr: bytes
    trap: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """Host directory, and its name in the guest."""

    host: Path
    guest: str
    writable: bool = True


def run_with_wasmtime(
    wasm: Path,
    args: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    dirs: Sequence[Mount] = (),
    stdin: bytes = b"",
    *,
    timeout_seconds: float = 120,
    cache: Path | None = None,
) -> Outcome:
    """Run `wasm` to its end; `args` begin with the program's own name.

    The guest's standard streams are files. `cache` is a directory for compiled modules.
    """
    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder)
        (room / "stdin").write_bytes(stdin)
        command = [sys.executable, "-m", "tests.support.oracle", f"--room={room}", f"--wasm={wasm}"]
        command += [f"--arg={arg}" for arg in args]
        command += [f"--env={name}={value}" for name, value in (env or {}).items()]
        for mount in dirs:
            command.append(f"--{'dir' if mount.writable else 'rodir'}={mount.guest}={mount.host}")
        if cache is not None:
            command.append(f"--cache={cache}")
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, timeout=timeout_seconds, check=False
        )
        trap = done.stderr.decode(errors="replace")
        if done.returncode != TRAP_CODE and trap:
            raise RuntimeError(f"the oracle itself failed ({done.returncode}): {trap}")
        return Outcome(
            code=done.returncode,
            stdout=(room / "stdout").read_bytes(),
            stderr=(room / "stderr").read_bytes(),
            trap=trap,
        )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.support.oracle")
    parser.add_argument("--wasm", type=Path, required=True)
    parser.add_argument("--room", type=Path, help="take stdin from here, leave the outputs here")
    parser.add_argument("--cache", type=Path)
    for name in ("arg", "env", "dir", "rodir"):
        parser.add_argument(f"--{name}", action="append", default=[])
    return parser.parse_args()


def _main() -> int:
    options = _parse()
    engine = wasmtime.Engine()
    config = wasmtime.WasiConfig()
    config.argv = options.arg or [options.wasm.name]
    config.env = [tuple(item.split("=", 1)) for item in options.env]
    if options.room:
        config.stdin_file = str(options.room / "stdin")
        config.stdout_file = str(options.room / "stdout")
        config.stderr_file = str(options.room / "stderr")
    else:
        config.inherit_stdin()
        config.inherit_stdout()
        config.inherit_stderr()
    for item in options.dir:
        guest, host = item.split("=", 1)
        config.preopen_dir(host, guest)
    for item in options.rodir:
        guest, host = item.split("=", 1)
        config.preopen_dir(host, guest, fs_mutable=False)
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    store = wasmtime.Store(engine)
    store.set_wasi(config)
    module = _compiled(engine, options.wasm, options.cache)
    try:
        instance = linker.instantiate(store, module)
        start = instance.exports(store)["_start"]
        assert isinstance(start, wasmtime.Func)
        start(store)
    except wasmtime.ExitTrap as ending:
        return ending.code
    except (wasmtime.Trap, wasmtime.WasmtimeError) as trap:
        print(trap, file=sys.stderr)
        return TRAP_CODE
    return 0


def _compiled(engine: wasmtime.Engine, wasm: Path, cache: Path | None) -> wasmtime.Module:
    """Return the compiled module, from `cache` if this wasmtime compiled it before."""
    if cache is None:
        return wasmtime.Module.from_file(engine, str(wasm))
    digest = hashlib.sha256(wasm.read_bytes() + version("wasmtime").encode()).hexdigest()
    kept = cache / f"oracle-{digest[:32]}.cwasm"
    if kept.exists():
        return wasmtime.Module.deserialize_file(engine, str(kept))
    module = wasmtime.Module.from_file(engine, str(wasm))
    with tempfile.NamedTemporaryFile(dir=cache, delete=False) as fresh:
        fresh.write(module.serialize())
    Path(fresh.name).replace(kept)
    return module


if __name__ == "__main__":
    sys.exit(_main())


def read_tree(folder: Path) -> dict[str, bytes | str]:
    """Return everything below a folder: contents of files, targets of links, '' for directories."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = str(path.readlink())
        else:
            found[name] = path.read_bytes() if path.is_file() else ""
    return found
