"""Modules for the tests of the wasm parser: all guests, and damaged copies of guests."""

from __future__ import annotations

from typing import Any

import wasmtime
from hypothesis import strategies as st

from tests.support.programs import GUESTS

ALL_GUESTS = sorted(GUESTS.glob("*.wasm"))


FEATURES = (
    *("threads", "tail_call", "multi_memory", "memory64", "relaxed_simd", "exceptions"),
    *("function_references", "gc", "custom_page_sizes"),
)


def make_full_engine() -> Any:
    config = wasmtime.Config()
    for feature in FEATURES:
        setattr(config, f"wasm_{feature}", True)
    return wasmtime.Engine(config)


@st.composite
def damaged_guests(draw: st.DrawFn) -> bytes:
    """Generate a guest with flipped bytes that may be truncated."""
    data = bytearray(draw(st.sampled_from(ALL_GUESTS)).read_bytes())
    for _ in range(draw(st.integers(0, 8))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)
