"""The source distribution and the pure wheel work outside of the checkout.

``make wheels`` does the same with packages of the index, and with the compiled wheel too.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.support.programs import ROOT

in_checkout = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not in a checkout")


@in_checkout
@pytest.mark.deep
def test_the_distributions_work_where_they_are_installed(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "tools/wheels.py", "--pure", "--offline", "--output", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (sdist,), (wheel,) = tmp_path.glob("*.tar.gz"), tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {
        "journal",
        "journaltool",
        "wasm_journal",
    }
    packages = [path.parent for path in (ROOT / "journal").rglob("__init__.py")]
    assert {f"{package.relative_to(ROOT)}/__init__.py" for package in packages} <= set(names)
    assert {"journal/py.typed", "journaltool/py.typed"} <= set(names)
    with tarfile.open(sdist) as archive:
        folders = {name.split("/")[1] for name in archive.getnames() if name.count("/") > 1}
    assert folders >= {
        "benchmarks",
        "demo",
        "docs",
        "examples",
        "fixtures",
        "spec",
        "tests",
        "tools",
    }
