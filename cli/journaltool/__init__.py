"""The command line: options, one call of the library, and what is shown of it.

Alone in printing and in reading the environment. Nothing slow is imported before it is needed: a
guest should start at once.
"""

import gc
import os
import signal
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; what the command ``journaltool`` calls."""
    # Almost nothing of what is imported at the start is ever garbage: looking for it costs a tenth
    # of the start. A command that lives long switches it on again.
    gc.disable()
    _exit_on_sigint()
    _fill_standard_descriptors()

    from journaltool.app import app
    from journaltool.commands.completion import COMPLETION_VARIABLE, register_completion

    if COMPLETION_VARIABLE in os.environ:
        register_completion()
    app(prog_name="journaltool")


def _exit_on_sigint() -> None:
    """Let Ctrl-C end the process at once, with no traceback, until a command knows better.

    While a module is compiled, Python would not even look at it.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _fill_standard_descriptors() -> None:
    """Open what the caller has closed of 0, 1 and 2, or a journal would get such a number."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
            mode = "w" if descriptor else "r"
            setattr(sys, name, os.fdopen(descriptor, mode, closefd=False))
