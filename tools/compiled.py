"""Run the tests on a copy of the tree with the compiled modules.

    python tools/compiled.py [--if-possible] [pytest arguments]

Programs that the tests start use the copy too. If nothing can be compiled, the tool prints the
requirements and exits with 1, or with 0 under --if-possible.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TREE = ROOT / ".cache" / "compiled"
PROBE = "from journal.events.codec import NATIVE; raise SystemExit(not NATIVE)"


def copy_tree() -> None:
    """Copy the files of the working tree that git does not ignore."""
    shutil.rmtree(TREE, ignore_errors=True)
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    for name in filter(None, output.decode().split("\0")):
        source, target = ROOT / name, TREE / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    # Both builds use the same programs and compiled guests.
    (TREE / ".cache").symlink_to(ROOT / ".cache", target_is_directory=True)


def main() -> int:
    """Compile the copy and run pytest with the given arguments. Return the exit code."""
    arguments = sys.argv[1:]
    is_optional = arguments[:1] == ["--if-possible"]
    copy_tree()
    environment = os.environ | {
        "JOURNAL_COMPILED": "1",
        "PYTHONPATH": os.pathsep.join([str(TREE), str(TREE / "cli")]),
    }
    build = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    for command in (build, [sys.executable, "-c", PROBE]):
        if subprocess.run(command, cwd=TREE, env=environment).returncode:
            print("nothing was compiled: install a C compiler, the Python headers and mypy")
            return 0 if is_optional else 1
    tests = [sys.executable, "-m", "pytest", *arguments[is_optional:]]
    return subprocess.run(tests, cwd=TREE, env=environment).returncode


if __name__ == "__main__":
    raise SystemExit(main())
