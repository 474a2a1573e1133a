"""Copies of the files that a build reads, so that a build leaves nothing in the working tree."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.programs import ROOT

TOP_FILES = ("LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py")


def copy_build_tree(target: Path) -> Path:
    """Copy the packages and the build settings to a new directory ``target``, and return it."""
    target.mkdir(parents=True)
    for folder in ("journal", "cli"):
        for source in (ROOT / folder).rglob("*"):
            if source.suffix in (".py", ".typed"):
                copy = target / source.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, copy)
    for name in TOP_FILES:
        shutil.copy2(ROOT / name, target / name)
    return target


def run_setup(tree: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run setup.py of a tree, with JOURNAL_COMPILED as in ``environment`` alone."""
    inherited = {name: value for name, value in os.environ.items() if name != "JOURNAL_COMPILED"}
    return subprocess.run(
        [sys.executable, "setup.py", *arguments],
        cwd=tree,
        env=inherited | environment,
        check=False,
        capture_output=True,
        text=True,
    )
