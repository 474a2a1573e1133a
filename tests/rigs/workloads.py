"""Runs of a writer, and the promises made on the way."""

from __future__ import annotations

import random
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from journal.errors import JournalError, StorageError
from journal.log.writer import Writer
from tests.rigs import api
from tests.rigs.promise import Promise, Row

_SIZES = (0, 10, 60, 300, 700, 5000)
_SIZE_LARGE = 90_000


def row_of(seq: int, rng: random.Random) -> Row:
    """Return an event that is unique to its number."""
    size = _SIZE_LARGE if rng.random() < 0.02 else rng.choice(_SIZES)
    filling = rng.randbytes(size) if rng.random() < 0.5 else bytes(size)
    return 1 + seq % 199, b"%d:" % seq + filling


def write(path: Path, plan: api.Plan, promise: Promise, seed: int, steps: int = 12) -> None:
    """Append, flush, sync and reopen at random; end early after two disk failures."""
    rng = random.Random(seed)
    try:
        for _ in range(rng.randint(1, 2)):
            writer = _opened(path, plan)
            if writer is None:
                return
            with writer:
                assert writer.next_seq == len(promise.rows)
                promise.acknowledge(writer.next_seq)
                for _ in range(steps):
                    _step(writer, plan, promise, rng)
            promise.acknowledge(len(promise.rows))
    except StorageError as error:
        promise.failed(error)


def _opened(path: Path, plan: api.Plan) -> Writer | None:
    """Open a journal; None if the disk fails, which neither makes nor breaks a promise."""
    try:
        return api.open_writer(path, plan)
    except (OSError, JournalError):
        return None


def _step(writer: Writer, plan: api.Plan, promise: Promise, rng: random.Random) -> None:
    """Perform one action; check that a failed writer continues to fail."""
    try:
        _do_something(writer, plan, promise, rng)
    except StorageError as error:
        promise.failed(error)
        promise.acknowledge(writer.durable_upto)
        if not _still_takes(writer, promise):
            raise


def _still_takes(writer: Writer, promise: Promise) -> bool:
    """Return whether a writer rejects appends because the disk is full, but remains usable."""
    promise.tried.update(promise.rows[writer.next_seq :])
    del promise.rows[writer.next_seq :]
    row = (199, b"%d:after an error" % writer.next_seq)
    promise.rows.append(row)
    try:
        return writer.append_frame(*row) == len(promise.rows) - 1
    except StorageError:
        return False


def _do_something(writer: Writer, plan: api.Plan, promise: Promise, rng: random.Random) -> None:
    before = len(promise.rows)
    dice = rng.random()
    if dice < 0.6:
        for _ in range(rng.randint(1, 4)):
            promise.rows.append(row_of(len(promise.rows), rng))
            assert writer.append_frame(*promise.rows[-1]) == len(promise.rows) - 1
            if plan.level == "every":
                promise.acknowledge(len(promise.rows))
    elif dice < 0.8:
        promise.rows += [row_of(before + number, rng) for number in range(rng.randint(1, 9))]
        assert list(writer.append_many(promise.rows[before:])) == list(
            range(before, len(promise.rows))
        )
        if plan.level == "every":
            promise.acknowledge(len(promise.rows))
    elif dice < 0.9:
        writer.flush()
    elif promise.rows and rng.random() < 0.5:
        seq = rng.randrange(len(promise.rows))
        assert writer.wait(seq)
        promise.acknowledge(seq + 1)
    else:
        writer.sync()
        promise.acknowledge(len(promise.rows))
    promise.acknowledge(writer.durable_upto)


class Producer:
    """One of several threads that append to a writer and wait at the same time."""

    def __init__(self, number: int, writer: Writer, plan: api.Plan, promise: Promise) -> None:
        self.failure: BaseException | None = None
        self.number = number
        self._writer, self._plan, self._promise = writer, plan, promise
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        if self.failure is not None and not isinstance(self.failure, StorageError):
            raise self.failure

    def _run(self) -> None:
        rng = random.Random(self.number)
        try:
            for step in range(8):
                row = (self.number, b"%d/%d:" % (self.number, step) + bytes(rng.choice(_SIZES)))
                self._promise.tried.add(row)
                seq = self._writer.append_frame(*row)
                if self._plan.level == "every" or (rng.random() < 0.5 and self._writer.wait(seq)):
                    self._promise.acknowledge(seq + 1)
        except BaseException as error:
            self.failure = error


def write_together(path: Path, plan: api.Plan, promise: Promise, seed: int) -> None:
    """Let three threads append and wait at the same time."""
    del seed  # The order of threads does not depend on the seed.
    writer = _opened(path, plan)
    if writer is None:
        return
    try:
        with writer, ExitStack() as stack:
            promise.acknowledge(writer.next_seq)
            for number in (1, 2, 3):
                stack.enter_context(Producer(number, writer, plan, promise))
            stack.close()
            writer.sync()
            promise.acknowledge(writer.durable_upto)
    except StorageError as error:
        promise.failed(error)
