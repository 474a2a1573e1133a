"""Power cuts below real file systems, and disks that reject data of the page cache."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from journal.errors import StorageError
from tests.rigs import api, needs, volumes, workloads
from tests.rigs.blockdisk import NAME as DISK
from tests.rigs.campaign import NAME, Field
from tests.rigs.fused import Served
from tests.rigs.promise import Promise, check
from tests.support.budget import Budget

Count = Callable[[int], None]
DIRECTORY = api.Plan(roll_size=4096)
PLANS = [api.Plan(), api.Plan("every"), DIRECTORY]
RAW = [api.Plan(compress=False), api.Plan(compress=False, roll_size=1 << 16)]
MARKER = b"refuse me"
ALWAYS = 1 << 30


def on_each(*kinds: str) -> pytest.MarkDecorator:
    """Run a test on each of these kinds of file systems."""
    params = [pytest.param(kind, marks=needs.mark(needs.why_no_disk(kind))) for kind in kinds]
    return pytest.mark.parametrize("kind", params)


on_each_kind = on_each(*volumes.KINDS)
on_each_that_shuts_down = on_each("ext4", "xfs")


@pytest.fixture
def field() -> Iterator[Field]:
    with Field() as field:
        yield field


class Bench:
    """A disk under a file system of the given kind."""

    def __init__(self, field: Field, kind: str) -> None:
        self.kind = kind
        self.root = field.fresh()
        self.image = self.root / "image"
        volumes.make_image(kind, self.image)

    def serve(self) -> Served:
        return Served("tests.rigs.blockdisk", self.root / "fuse", str(self.image))

    def mount(self, image: Path) -> AbstractContextManager[Path]:
        return volumes.mounted(self.kind, image, self.root / "mount")


def cut_often(
    field: Field,
    kind: str,
    plan: api.Plan,
    seed: int,
    states: int,
    budget: Budget | None = None,
) -> int:
    """Write on a real file system, then try some states that power cuts can leave."""
    bench, promise = Bench(field, kind), Promise()
    rng = random.Random(seed)
    kept: list[tuple[int, int, bool]] = [(0, 0, False)]
    with bench.serve() as disk:
        with bench.mount(disk.mount_point / DISK) as mount:
            first = disk.ask("position")

            def promised(acknowledged: int, created: bool) -> None:
                kept.append((disk.ask("position"), acknowledged, created))

            promise.listener = promised
            workloads.write(mount / NAME, plan, promise, seed)
            promise.listener = None
            last = disk.ask("position")
        numbers: Iterable[int] = range(states)
        if budget is not None:
            numbers = budget.spend(range(states), 2)
        tried = 0
        for number in numbers:
            tried += 1
            position = rng.randint(first, last)
            image = bench.root / "state"
            disk.ask("image", path=str(image), position=position, seed=rng.random())
            known = kept[bisect_right(kept, position, key=lambda row: row[0]) - 1]
            with bench.mount(image) as mount:
                partly = Promise(promise.rows, promise.tried, known[1], known[2])
                try:
                    check(mount / NAME, partly, plan)
                except Exception as error:
                    error.add_note(f"{plan} on {kind}, seed {seed}, state {number} at {position}")
                    raise
    return tried


@pytest.mark.deep
@on_each_kind
def test_any_subset_of_unflushed_sectors_may_be_lost(
    field: Field, kind: str, count_states: Count
) -> None:
    count_states(cut_often(field, kind, api.Plan(), 1, 3))


@pytest.mark.deep
@on_each_kind
@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_any_subset_of_unflushed_sectors_may_be_lost_again_and_again(
    field: Field, kind: str, plan: api.Plan, count_states: Count, budget: Budget
) -> None:
    count_states(sum(cut_often(field, kind, plan, seed, 50, budget) for seed in range(10, 12)))


@on_each_that_shuts_down
def test_a_file_system_that_shuts_down_keeps_what_was_promised(
    field: Field, kind: str, count_states: Count
) -> None:
    count_states(shut_down_often(field, kind, DIRECTORY, range(2)))


@pytest.mark.deep
@on_each_that_shuts_down
@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_a_file_system_that_shuts_down_often_keeps_what_was_promised(
    field: Field, kind: str, plan: api.Plan, count_states: Count, budget: Budget
) -> None:
    count_states(shut_down_often(field, kind, plan, budget.spend(range(40), 2)))


def shut_down_often(field: Field, kind: str, plan: api.Plan, seeds: Iterable[int]) -> int:
    """Detach a file system from its disk at a promise, and check the disk."""
    bench = Bench(field, kind)
    count = 0
    for seed in seeds:
        count += 1
        path, promise = Path(f"{seed}.journal"), Promise()
        countdown = random.Random(seed).randrange(1, 25)
        with bench.mount(bench.image) as mount:

            def promised(_: int, __: bool) -> None:
                nonlocal countdown
                countdown -= 1
                if not countdown:
                    volumes.shut_down(mount)

            promise.listener = promised
            workloads.write(mount / path, plan, promise, seed)
            promise.listener = None
            if countdown > 0:
                volumes.shut_down(mount)
        with bench.mount(bench.image) as mount:
            try:
                check(mount / path, promise, plan)
            except Exception as error:
                error.add_note(f"{plan} on {kind}, seed {seed}")
                raise
    return count


def reject_writes(
    field: Field, kind: str, plan: api.Plan, times: int
) -> tuple[int, StorageError | None]:
    """Reject the write-back of an event; return the number of rejections, and the error.

    The journal is read from the disk afterwards, and must contain all promised events.
    """
    bench, promise, failure = Bench(field, kind), Promise(), None
    with bench.serve() as disk:
        with bench.mount(disk.mount_point / DISK) as mount:
            try:
                with api.open_writer(mount / NAME, plan) as writer:
                    for number in range(30):
                        if number == 10:
                            disk.ask("refuse", marker=MARKER.hex(), times=times)
                        row = (1 + number, MARKER + b"%d" % number * 1000)
                        promise.rows.append(row)
                        assert writer.append_frame(*row) == number
                        writer.sync()
                        promise.acknowledge(number + 1)
            except StorageError as error:
                failure = error
        assert failure is None or failure.first_seq_lost == promise.acknowledged
        count = int(disk.ask("refused"))
        disk.ask("refuse", marker="", times=0)
        with bench.mount(disk.mount_point / DISK) as mount:
            check(mount / NAME, promise, plan)
    return count, failure


@on_each_kind
@pytest.mark.parametrize("plan", RAW, ids=str)
def test_a_write_back_that_fails_once_costs_nothing(
    field: Field, kind: str, plan: api.Plan
) -> None:
    count, failure = reject_writes(field, kind, plan, times=1)
    assert count == 1
    assert failure is None


@on_each_kind
@pytest.mark.parametrize("plan", RAW, ids=str)
def test_a_write_back_that_fails_twice_ends_the_writer_which_says_what_is_lost(
    field: Field, kind: str, plan: api.Plan
) -> None:
    count, failure = reject_writes(field, kind, plan, times=ALWAYS)
    assert count >= 1
    assert failure is not None
    assert failure.first_seq_lost == 10
