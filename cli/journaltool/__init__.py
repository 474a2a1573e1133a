"""Command line of the library: each command parses options, calls the library and prints a result.

Only this package prints and reads environment variables. Slow modules are imported when they are
needed, so that a guest starts without delay.
"""

try:
    import gc
    import os
    import signal
    import sys

    def _exit_on_sigint() -> None:
        """Make SIGINT end the process at once with status 130, without a traceback.

        The handling lasts until a command installs its own. An ignored SIGINT stays ignored.
        """
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, lambda *_: os._exit(130))

    # The module name in argv[0] is "-m" while Python looks for __main__. Other programs that import
    # this package keep their own handling of SIGINT.
    if sys.argv[0] == "-m" or os.path.basename(sys.argv[0]) == "journaltool":  # noqa: PTH119
        _exit_on_sigint()
except KeyboardInterrupt:
    raise SystemExit(130) from None

__all__ = ["main"]


def main() -> None:
    """Run the command line. The executable ``journaltool`` calls this function."""
    # Almost none of the modules imported at the start become garbage, and looking for garbage takes
    # a tenth of the start-up time. Long-lived commands enable the collector again.
    gc.disable()
    _exit_on_sigint()
    _open_standard_descriptors()

    from journaltool import error_report
    from journaltool.app import app
    from journaltool.commands.completion import COMPLETION_VARIABLE, register_completion

    if COMPLETION_VARIABLE in os.environ:
        register_completion()
    error_report.run_reporting(lambda: app(prog_name="journaltool"))


def _open_standard_descriptors() -> None:
    """Open the null device, only for reading, for each closed descriptor of 0, 1 and 2.

    Otherwise a journal could be opened as descriptor 0, 1 or 2. A write to a closed output still
    fails, so that a command without an output does not succeed. Messages have no other place than
    standard error, so they are dropped.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)
            if descriptor == 0:
                sys.stdin = os.fdopen(0, "r", closefd=False)
            elif descriptor == 1:
                sys.stdout = os.fdopen(1, "w", closefd=False)
            else:
                sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 (pathlib is slow to import)
