"""Oracle of WASIX: runs a module under a real Wasmer, in another process, offline.

`run_with_wasmer` is for tests; `python -m tests.support.wasmer_oracle` is the process it starts.
The wheel `wasmer-sdk` is in the extra `guests`. It is no dependency of the project.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.programs import ROOT

END = "end: 0"
"""Last line of a guest that made all of its calls."""


class Outcome(NamedTuple):
    """Exit code of a guest and its output."""

    code: int | None
    stdout: bytes


def require_wasmer() -> None:
    """Skip the test if this Python has no Wasmer."""
    if importlib.util.find_spec("wasmer_sdk") is None:
        pytest.skip("Wasmer is missing (pip install wasmer-sdk==0.5.0)")


def run_with_wasmer(wasm: Path, arguments: tuple[str, ...], cache: Path) -> Outcome:
    """Run a module with the network of the host, and return how it ended.

    Wasmer sometimes aborts at its own end, after the guest has ended. The outcome counts then.
    """
    command = [sys.executable, "-m", "tests.support.wasmer_oracle", str(wasm), str(cache)]
    done = subprocess.run(
        [*command, *arguments],
        cwd=ROOT,
        capture_output=True,
        check=False,
        timeout=DEADLINE_SECONDS,
    )
    assert done.stdout, done.stderr.decode(errors="replace")
    code, text = json.loads(done.stdout)
    return Outcome(code, text.encode("latin-1"))


async def _run(wasm: str, cache: str, arguments: list[str]) -> tuple[int, str]:
    from wasmer_sdk import Wasmer

    async with Wasmer(cache_root=cache) as wasmer:
        package = await wasmer.packages.load(Path(wasm).read_bytes())
        options = {"packages": [package], "network": "host"}
        async with await wasmer.sandboxes.create(**options) as sandbox:
            output = await sandbox.command(package, arguments).run(
                timeout=DEADLINE_SECONDS / 2, check=False
            )
            outcome = output.exit_code, output.stdout.bytes.decode("latin-1")
            print(json.dumps(outcome), flush=True)
            return outcome


if __name__ == "__main__":
    asyncio.run(_run(sys.argv[1], sys.argv[2], sys.argv[3:]))
