"""Real shells that are asked for completions, if necessary by a key in a terminal.

The output of ``journaltool completion`` for each shell is in the directory, in ``.script.bash`` and
similar files.
"""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from tests.support.deadlines import DEADLINE_SECONDS

_WINDOW = (50, 200)
"""Lines and columns of the terminal, large enough to cut nothing."""
_COMMANDS = {"bash": ("bash", "--norc", "--noprofile", "-i"), "zsh": ("zsh", "-f", "-i")}

#: Replacement of the command: it notes its words instead of running. Programs that complete the
#: line are found by ``env``, which knows no functions.
_NOTED = r"""
journaltool() { { printf '%s\n' "$@"; echo "--end--"; } >> "$OUT"; }
"""
#: Zsh adds each match by ``compadd``, which can also only tell of them.
_TELLING = r"""
unsetopt beep
autoload -U compinit && compinit -u -D
. ./.script.zsh
compadd() {
    local -a found; builtin compadd -A found "$@"
    (( $#found )) && print -rl -- $found >> $OUT
    builtin compadd "$@"
}
telling() { _main_complete; print -r -- "--end--" >> $OUT }
zle -C telling complete-word telling
bindkey "^I" telling
"""
_COMPLETING = {
    "bash": 'bind "set bell-style none"; . ./.script.bash',
    "zsh": 'unsetopt beep; autoload -U compinit && compinit -u -D\n'
    '. ./.script.zsh',
}  # fmt: skip


class Terminal:
    """A shell in a terminal that reports to a file. A context manager."""

    def __init__(self, shell: str, setup: str, folder: Path, env: Mapping[str, str]) -> None:
        self._out = folder / ".out"
        self._out.write_text("")
        script = folder / ".setup"
        script.write_text(f'PS1="> "\n{setup}\necho "--end--" >> "$OUT"\n')
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", *_WINDOW, 0, 0))
        self._process = subprocess.Popen(
            _COMMANDS[shell],
            stdin=slave, stdout=slave, stderr=slave, cwd=folder, start_new_session=True,
            env={**env, "OUT": str(self._out), "TERM": "dumb", "HOME": str(folder)},
        )  # fmt: skip
        os.close(slave)
        self._shown = b""
        self._answers = 0
        self.ask(f". {script}\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    def ask(self, keys: str) -> list[str]:
        """Press keys; return the lines that the shell reports then."""
        self._answers += 1
        count = self._answers
        self._press(keys, lambda: self._out.read_text().count("--end--\n") >= count)
        return self._out.read_text().split("--end--\n")[count - 1].splitlines()

    def see(self, keys: str, wanted: str) -> None:
        """Press keys, and wait until a text is shown."""
        self._press(keys, lambda: wanted.encode() in self._shown)

    def _press(self, keys: str, is_done: Callable[[], bool]) -> None:
        os.write(self._master, keys.encode())
        end = time.monotonic() + DEADLINE_SECONDS
        while not is_done():
            if select.select([self._master], [], [], 0.02)[
                0
            ]:  # The terminal's output must be read, or the shell would wait.
                self._shown += os.read(self._master, 1 << 16)
            assert time.monotonic() < end, f"no answer: {self._shown.decode()}"


def told_by_bash(line: str, folder: Path, env: Mapping[str, str]) -> set[str]:
    """Return the completions of the last word. No word may contain a blank."""
    words = line.replace("=", " = ").split()  # Split as readline does.
    last = len(words) if line.endswith((" ", "=")) else len(words) - 1
    asked = f""". ./.script.bash
COMP_WORDS=({" ".join(words)}); COMP_CWORD={last}
_journaltool_completion journaltool
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        ["bash", "-c", asked], cwd=folder, env=env, capture_output=True, check=True, text=True
    )
    assert not done.stderr
    return {word for word in done.stdout.splitlines() if word}


def said_by_fish(line: str, folder: Path, env: Mapping[str, str]) -> dict[str, str]:
    """Return the listed words and their descriptions."""
    asked = 'source .script.fish; complete -C "$argv[1]"'
    done = subprocess.run(
        ["fish", "--no-config", "-c", asked, "--", line],
        cwd=folder, env={**env, "HOME": str(folder)}, capture_output=True, check=True, text=True,
    )  # fmt: skip
    assert not done.stderr
    return {
        word: said for word, _, said in (one.partition("\t") for one in done.stdout.splitlines())
    }


def told_by_fish(line: str, folder: Path, env: Mapping[str, str]) -> set[str]:
    """Return the listed words."""
    return set(said_by_fish(line, folder, env))


def told_by_zsh(line: str, folder: Path, env: Mapping[str, str]) -> set[str]:
    """Return the words that the function adds to its list."""
    with Terminal("zsh", _TELLING, folder, env) as terminal:
        return set(terminal.ask(f"{line}\t"))


def words_typed(shell: str, line: str, folder: Path, env: Mapping[str, str]) -> list[str]:
    """Return the words that a command receives after a key completed the last one."""
    with Terminal(shell, f"{_COMPLETING[shell]}\n{_NOTED}", folder, env) as terminal:
        return terminal.ask(f"{line}\t\n")


def shows_in_zsh(line: str, wanted: str, folder: Path, env: Mapping[str, str]) -> None:
    """Wait for a text below a line that a key completes in several ways."""
    with Terminal("zsh", _COMPLETING["zsh"], folder, env) as terminal:
        terminal.see(f"{line}\t", wanted)
