"""State of the exchange with one driver, without the transport of its bytes."""

from collections.abc import Mapping
from dataclasses import replace

from journal._arguments import check_text
from journal.engine.recipes import driver_protocol
from journal.engine.recipes.evaluation import Evaluation
from journal.engine.recipes.warm_journal import WORK_DIRECTORY
from journal.engine.session.reply import Reply
from journal.errors import EngineError, OptionError

CODE_SIZE_MAX = 16 << 20
"""Largest code of one evaluation, in characters."""
VALUE_SIZE_MAX = 1 << 20
"""Default limit of the JSON of one value, in characters."""

_WORK_PREFIX = f"{WORK_DIRECTORY}/"


class Conversation:
    """Requests to one clone of a warm interpreter, and its replies, in their order.

    The first request has the seed for the random numbers of the clone. ``files`` are the files of
    the snapshot, and ``nonce`` is that of the last request.
    """

    def __init__(self, value_size_max: int, files: Mapping[str, bytes]) -> None:
        self._value_size_max = value_size_max
        self._files = files
        self._count = 0
        self._end = ""
        self.nonce = ""

    @property
    def is_alive(self) -> bool:
        """Return whether the clone can evaluate more code."""
        return not self._end

    def make_request(self, code: str) -> bytes:
        """Return the request to evaluate code. Raises ``EngineError`` after the clone has ended."""
        check_code(code)
        if self._end:
            raise EngineError(f"the session cannot evaluate more code: {self._end}")
        seed = None if self._count else driver_protocol.make_seed()
        self._count += 1
        self.nonce = driver_protocol.make_nonce()
        name = f"<evaluation {self._count}>"
        return driver_protocol.encode_request(self.nonce, seed, self._value_size_max, name, code)

    def accept_reply(self, reply: Reply) -> Evaluation:
        """Return the evaluation in a reply, without its files."""
        evaluation = driver_protocol.decode_reply(reply, self.nonce, self._value_size_max)
        if not evaluation.is_alive:
            self._end = evaluation.error
        return evaluation

    def add_files(self, evaluation: Evaluation, files: Mapping[str, bytes]) -> Evaluation:
        """Return the evaluation with the files that it created or changed.

        ``files`` has all files of the guest.
        """
        present = {path: data for path, data in files.items() if path.startswith(_WORK_PREFIX)}
        changed = {path: data for path, data in present.items() if self._files.get(path) != data}
        self._files = present
        return replace(evaluation, files=changed) if changed else evaluation


def check_code(code: str) -> None:
    """Raise ``OptionError`` unless ``code`` is a text of an allowed size."""
    if len(check_text("code", code)) > CODE_SIZE_MAX:
        raise OptionError(
            f"code must have at most {CODE_SIZE_MAX} characters, got {len(code)}: "
            "copy it into the sandbox as a file"
        )
