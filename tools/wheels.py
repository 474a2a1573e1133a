"""Build the distributions of this version into dist/, and prove that each of them works.

    python tools/wheels.py [--pure] [--offline] [--output DIRECTORY]

The source distribution is built from the files of the checkout, and both wheels, pure and compiled,
from the unpacked source distribution. Each wheel is installed in a new virtual environment and runs
``tools/wheel_smoke.py`` outside of the checkout; some test files run in the unpacked source
distribution. ``--pure`` omits the compiled wheel, which takes minutes. ``--offline`` uses the
packages of this environment instead of a package index.
"""

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SMOKE = "tools/wheel_smoke.py"
GUEST = "fixtures/guests/prompt.wasm"
SDIST_TESTS = (
    "tests/format/test_events.py",
    "tests/format/test_spec.py",
    "tests/log/test_reader.py",
    "tests/project/test_man_pages.py",
)
"""Quick tests that need fixtures, the specification, the tools and the command line."""


def print_step(text: str) -> None:
    """Print the step that begins."""
    print(f"wheels: {text}", flush=True)


def run(*command: object, cwd: Path, **environment: str) -> None:
    """Run a command. Raises CalledProcessError if it fails."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in ("JOURNAL_COMPILED", "PYTHONPATH")
    }
    subprocess.run(list(map(str, command)), cwd=cwd, env=inherited | environment, check=True)


def list_checkout() -> list[str]:
    """Return the files of the checkout: tracked files, and new files that are not ignored."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def copy_checkout(target: Path) -> None:
    """Copy the files of the checkout, because a build leaves files in its tree."""
    for name in list_checkout():
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy)


class Builder:
    """Builds of distributions in a temporary directory, moved to ``output`` when they work."""

    def __init__(self, folder: Path, output: Path, *, offline: bool) -> None:
        self._folder = folder
        self._output = output
        self._offline = offline

    def build(self, kind: str, tree: Path, **environment: str) -> Path:
        """Build the ``sdist`` or ``wheel`` of a tree. Return its path in ``output``."""
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            options = ["--no-isolation"] if self._offline else []
            command = [sys.executable, "-m", "build", f"--{kind}", "--outdir", folder, *options]
            quiet = subprocess.run(
                command,
                cwd=tree,
                env={**os.environ, "PYTHONPATH": "", **environment},
                check=False,
                capture_output=True,
                text=True,
            )
            if quiet.returncode:
                sys.exit(f"wheels: the {kind} cannot be built:\n{quiet.stdout}{quiet.stderr}")
            (built,) = Path(folder).iterdir()
            self._output.mkdir(parents=True, exist_ok=True)
            target = self._output / built.name
            shutil.move(built, target)
        return target

    def unpack(self, sdist: Path) -> Path:
        """Unpack a source distribution, and check that it has every file of the checkout."""
        with tarfile.open(sdist) as archive:
            archive.extractall(self._folder / "sdist", filter="data")
        (tree,) = (self._folder / "sdist").iterdir()
        missing = [name for name in list_checkout() if not (tree / name).is_file()]
        if missing:
            sys.exit(f"wheels: {sdist.name} lacks {', '.join(missing[:5])}: see MANIFEST.in")
        return tree

    @contextmanager
    def environment(self, wheel: Path) -> Iterator[Path]:
        """Install a wheel with its extra ``engine``. Yield the directory of the environment."""
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=self._folder)
            python = Path(folder, "bin", "python")
            options = ["--quiet", "--disable-pip-version-check", "--no-compile"]
            if self._offline:
                options += ["--no-deps", "--no-index"]
                self._share_packages(Path(folder))
            pip = [sys.executable, "-m", "pip", "--python", python, "install", *options]
            run(*pip, f"{wheel}[engine]", cwd=self._folder)
            yield Path(folder)

    def _share_packages(self, environment: Path) -> None:
        """Let an environment import the packages of this environment, except editable ones."""
        paths = sysconfig.get_path("purelib"), *(path for path in sys.path if "site-" in path)
        (target,) = environment.glob("lib/python*/site-packages")
        (target / "shared.pth").write_text("\n".join(dict.fromkeys(paths)) + "\n")

    def try_wheel(self, wheel: Path, tree: Path, *, is_compiled: bool) -> None:
        """Run the smoke test on an installed wheel, outside of the checkout."""
        with self.environment(wheel) as environment, tempfile.TemporaryDirectory() as folder:
            for name in (SMOKE, GUEST):
                shutil.copy2(tree / name, folder)
            python, expected = environment / "bin" / "python", "compiled" if is_compiled else "pure"
            program = Path(SMOKE).name
            run(python, "-I", "-W", "error", program, Path(GUEST).name, expected, cwd=Path(folder))

    def try_sdist(self, tree: Path) -> None:
        """Run some test files of an unpacked source distribution on its own modules."""
        paths = os.pathsep.join([str(tree), str(tree / "cli")])
        options = ["-q", "-p", "no:cacheprovider", "-m", "not deep"]
        run(sys.executable, "-m", "pytest", *options, *SDIST_TESTS, cwd=tree, PYTHONPATH=paths)


def main() -> None:
    """Build and try all distributions."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pure", action="store_true", help="omit the compiled wheel")
    parser.add_argument("--offline", action="store_true", help="use no package index")
    parser.add_argument("--output", type=Path, default=ROOT / "dist", metavar="DIRECTORY")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="journal-wheels-") as name:
        folder = Path(name)
        builder = Builder(folder, options.output.resolve(), offline=options.offline)
        copy_checkout(folder / "checkout")
        print_step("building the source distribution")
        sdist = builder.build("sdist", folder / "checkout", JOURNAL_COMPILED="0")
        tree = builder.unpack(sdist)
        print_step(f"testing {sdist.name}")
        builder.try_sdist(tree)
        for is_compiled in (False,) if options.pure else (False, True):
            print_step(f"building the {'compiled' if is_compiled else 'pure'} wheel")
            wheel = builder.build("wheel", tree, JOURNAL_COMPILED=str(int(is_compiled)))
            if wheel.name.endswith("-py3-none-any.whl") == is_compiled:
                sys.exit(f"wheels: {wheel.name} has the tags of the other build")
            print_step(f"testing {wheel.name}")
            builder.try_wheel(wheel, tree, is_compiled=is_compiled)
    print_step(f"all distributions in {options.output} work")


if __name__ == "__main__":
    main()
