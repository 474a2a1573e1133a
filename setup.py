"""Build settings that depend on the environment: compiled modules and their requirements.

A wheel is pure Python unless JOURNAL_COMPILED=1 is set. With it, the modules of ``MODULES`` are
compiled by mypyc, and a missing compiler or a failing compile is an error. All other settings are
in pyproject.toml.
"""

import os
import platform
import re
import sys
import sysconfig
import tempfile
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

MODULES = (
    "format/block",
    "_compiled",
    "events/codec",
    "format/columns",
    "format/block_header",
    "events/_native/batch_packer",
    "format/block_encoder",
    "vfs/descriptor_table",
    "vfs/memory_backend",
    "vfs/nodes",
    "vfs/resettable_backend",
    "replay/state/descriptor_table",
    "compaction/liveness/dependency_graph",
    "compaction/liveness/seq_bitset",
    "compaction/liveness/_native/fast_path",
    "compaction/liveness/interval_map",
    "compaction/liveness/descriptor_provenance",
    "compaction/liveness/file_provenance",
)
"""The modules of ``journal`` that are compiled, all in one shared library."""
REQUIRED = [
    "construct>=2.10.70",
    "zstandard>=0.22",
    "xxhash>=3.4",
    "google-re2>=1.1",
    "lmdb>=1.4",
    "typer>=0.26,<0.29",  # with click in it; 0.29 imports pydantic: 60 ms more at every start
    "rich>=13",
]
MYPY = "mypy==2.4.1"
PROBE = "#include <Python.h>\n"


def is_compiled_requested() -> bool:
    """Return whether JOURNAL_COMPILED requests a compiled build. An sdist compiles nothing."""
    value = os.environ.get("JOURNAL_COMPILED", "")
    if value not in ("", "0", "1"):
        refuse(f"JOURNAL_COMPILED must be 0 or 1, got {value[:40]!r}")
    return value == "1" and "sdist" not in sys.argv


def refuse(reason: str) -> NoReturn:
    """End the build with one sentence."""
    raise SystemExit(f"error: {reason}")


def refuse_compiled(reason: str) -> NoReturn:
    """End a compiled build with one sentence that names the remedy."""
    refuse(f"no compiled build: {reason}; unset JOURNAL_COMPILED to build pure Python")


def check_compiler() -> None:
    """End the build unless a C compiler and the headers of this Python are installed."""
    from setuptools._distutils.ccompiler import new_compiler
    from setuptools._distutils.sysconfig import customize_compiler

    if platform.python_implementation() != "CPython":
        refuse_compiled(f"mypyc needs CPython, not {platform.python_implementation()}")
    if {"editable_wheel", "develop"} & set(sys.argv):
        refuse_compiled("an editable installation is always pure Python")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        source.write_text(PROBE)
        include = [sysconfig.get_path("include"), sysconfig.get_path("platinclude")]
        try:
            compiler = new_compiler()
            customize_compiler(compiler)
            compiler.compile([str(source)], folder, include_dirs=include)
        except Exception as error:
            refuse_compiled(f"a C compiler and the headers of Python are needed ({error})")


def compiled_requirements() -> list[str]:
    """Return the run-time requirements of compiled modules; empty before mypy is installed."""
    with suppress(ImportError):
        import mypyc.build  # noqa: F401

        found = version("librt")
        major, minor, *_ = map(int, found.split("."))
        return [f"librt>={found},<{major}.{minor + 1}", "mypy_extensions>=1.0"]
    return []


def compiled_modules() -> list[Extension]:
    """Translate the compiled modules to C. End the build if mypyc is missing or refuses them."""
    try:
        from mypyc.build import mypycify
    except ImportError:
        refuse_compiled(f"{MYPY} is not installed")
    # An isolated build lacks the types of other packages, which must not matter.
    options = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent"]
    sources = [f"journal/{module}.py" for module in MODULES]
    try:
        found: list[Extension] = mypycify([*options, *sources], opt_level="3", debug_level="0")
    except (Exception, SystemExit) as error:
        refuse_compiled(f"mypyc refuses the modules ({error})")
    return found


def long_description() -> str:
    """Return README.md without relative links, because a package index does not serve them.

    A picture is removed, and a link to a file becomes its text and the file's path.
    """
    text = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
    text = re.sub(r"^!\[.*\]\((?!https:).*\)\n\n", "", text, flags=re.MULTILINE)
    return re.sub(r"\[([^\]]+)\]\((?!https:)([^)]+)\)", r"\1 (`\2`)", text)


class BuildCompiled(build_ext):
    """Compilation of all modules, or a build that ends."""

    def run(self) -> None:
        """Compile. End the build with one sentence if the compiler fails."""
        try:
            super().run()
        except Exception as error:
            refuse_compiled(f"the compiler failed ({error})")


is_requested = is_compiled_requested()
is_built = {"build", "build_ext", "bdist_wheel", "install"} & set(sys.argv)
if is_requested:
    check_compiler()
setup(
    long_description=long_description(),
    long_description_content_type="text/markdown",
    install_requires=[*REQUIRED, *(compiled_requirements() if is_requested else [])],
    setup_requires=[MYPY] if is_requested else [],
    ext_modules=compiled_modules() if is_requested and is_built else [],
    cmdclass={"build_ext": BuildCompiled},
)
