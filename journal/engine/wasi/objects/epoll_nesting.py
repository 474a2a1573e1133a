"""Chains of epoll sets that watch each other: without cycles, and short."""

from collections.abc import Callable
from typing import TypeVar

#: Longest chain of epoll sets that watch each other, as on Linux.
NESTED_MAX = 5

E = TypeVar("E")


def can_nest(
    outer: E, inner: E, get_nested: Callable[[E], list[E]], get_outer: Callable[[E], list[E]]
) -> bool:
    """Return whether ``outer`` can watch ``inner``: without a cycle, in a chain that is short."""
    below: dict[int, int] = {}
    height = _find_chain_length(inner, get_nested, below)
    above = _find_chain_length(outer, get_outer, {})
    return id(outer) not in below and height + above <= NESTED_MAX


def _find_chain_length(epoll: E, get_next: Callable[[E], list[E]], known: dict[int, int]) -> int:
    """Return the number of sets in the longest chain from ``epoll``, and add all of them."""
    if id(epoll) not in known:
        nexts = get_next(epoll)
        longest = max((_find_chain_length(each, get_next, known) for each in nexts), default=0)
        known[id(epoll)] = longest + 1
    return known[id(epoll)]
