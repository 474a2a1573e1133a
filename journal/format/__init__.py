"""Blocks and segments as bytes: encode, decode and validate them. Nothing here opens a file."""

from typing import TYPE_CHECKING

from journal._lazy import lazy_names

if TYPE_CHECKING:
    from journal.format.block import Block
    from journal.format.block_header import BlockHeader
    from journal.format.frame import Frame
    from journal.format.segment_header import SegmentHeader

_MODULES = {
    "Block": "format.block",
    "BlockHeader": "format.block_header",
    "Frame": "format.frame",
    "SegmentHeader": "format.segment_header",
}
"""The modules of the public names."""

__all__ = [
    "Block",
    "BlockHeader",
    "Frame",
    "SegmentHeader",
]

if not TYPE_CHECKING:  # A type checker sees the imports above.
    __getattr__, __dir__ = lazy_names(__name__, _MODULES)
