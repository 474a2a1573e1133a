"""What a build decides when it is made: whether the hot part is compiled, and what that needs.

A wheel is compiled (``pip install .``) where there is a C compiler, unless JOURNAL_COMPILED=0. An
editable installation, and whatever is built without a compiler, is plain Python. Nothing that goes
wrong here makes an installation fail. Everything else about the project is in pyproject.toml.
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

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

MODULES = (
    "format/block",
    "_compiled",
    "events/codec",
    "format/columns",
    "format/block_header",
    "events/batch_packer",
    "format/block_encoder",
    "replay/filesystem/memory_backend",
    "replay/state/descriptor_table",
    "compaction/liveness/dependency_graph",
    "compaction/liveness/seq_bitset",
    "compaction/liveness/fast_path",
    "compaction/liveness/interval_map",
    "compaction/liveness/descriptor_provenance",
    "compaction/liveness/file_provenance",
    "compaction/liveness/write_columns",
    "compaction/liveness/write_batch",
)
"""The modules of ``journal`` that are compiled, all in one library."""
REQUIRED = [
    "construct>=2.10.70",
    "zstandard>=0.22",
    "xxhash>=3.4",
    "lmdb>=1.4",
    "typer>=0.26,<0.29",  # with click in it; 0.29 imports pydantic: 60 ms more at every start
    "rich>=13",
]
MYPY = "mypy==2.4.1"
PLAIN_COMMANDS = {"editable_wheel", "develop", "sdist"}
PROBE = "#include <Python.h>\n"


def is_wanted() -> bool:
    """Whether this build should be compiled, if it can be."""
    return (
        os.environ.get("JOURNAL_COMPILED") != "0"
        and platform.python_implementation() == "CPython"
        and not PLAIN_COMMANDS & set(sys.argv)
    )


def has_compiler() -> bool:
    """Whether a compiler is there, and the headers of this Python."""
    from setuptools._distutils.ccompiler import new_compiler
    from setuptools._distutils.sysconfig import customize_compiler

    with tempfile.TemporaryDirectory() as folder, suppress(Exception):
        source = Path(folder, "probe.c")
        source.write_text(PROBE)
        compiler = new_compiler()
        customize_compiler(compiler)
        include = [sysconfig.get_path("include"), sysconfig.get_path("platinclude")]
        compiler.compile([str(source)], folder, include_dirs=include)
        return True
    return False


def required_by_compiled() -> list[str]:
    """What compiled modules need when they run; empty if mypyc is not there to compile them."""
    with suppress(Exception):
        import mypyc.build  # noqa: F401

        found = version("librt")
        major, minor, *_ = map(int, found.split("."))
        return [f"librt>={found},<{major}.{minor + 1}", "mypy_extensions>=1.0"]
    return []


def extensions() -> list[Extension]:
    """The compiled modules; none if mypyc will not have them."""
    with suppress(Exception, SystemExit):
        from mypyc.build import mypycify

        # types of other packages are not there in a build of its own, and must not matter
        options = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent"]
        sources = [f"journal/{module}.py" for module in MODULES]
        found: list[Extension] = mypycify([*options, *sources], opt_level="3", debug_level="0")
        return found
    return []


def long_description() -> str:
    """Return README.md without relative links, because a package index does not serve them.

    A picture is removed, and a link to a file becomes its text and the file's path.
    """
    text = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
    text = re.sub(r"^!\[.*\]\((?!https:).*\)\n\n", "", text, flags=re.MULTILINE)
    return re.sub(r"\[([^\]]+)\]\((?!https:)([^)]+)\)", r"\1 (`\2`)", text)


class BuildWhatCompiles(build_ext):
    """All compiled modules, or none: with what a failing compiler has left behind removed."""

    def run(self) -> None:
        """Compile."""
        try:
            super().run()
        except Exception as error:
            self.warn(f"plain Python instead of compiled modules: {error}")
            for name in self.get_outputs():
                Path(name).unlink(missing_ok=True)
            self.extensions.clear()


wanted = is_wanted() and has_compiler()
required = required_by_compiled() if wanted else []
is_built = {"build", "build_ext", "bdist_wheel", "install"} & set(sys.argv)
setup(
    long_description=long_description(),
    long_description_content_type="text/markdown",
    install_requires=[*REQUIRED, *required],
    setup_requires=[MYPY] if wanted else [],
    ext_modules=extensions() if required and is_built else [],
    cmdclass={"build_ext": BuildWhatCompiles},
)
