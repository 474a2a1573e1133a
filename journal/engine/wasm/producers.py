"""Reader of the section ``producers``: the languages and the tools that a module was made with.

The section is a convention of tools (ProducersSection.md of tool-conventions). It is a custom
section, so a module may have none, or one that makes no sense.
"""

from journal.engine.wasm.binary import CUSTOM, BinaryReader, iter_sections
from journal.errors import ModuleRefused

_NAME, _FIELD = "producers", "language"


def list_languages(module: bytes) -> frozenset[str]:
    """Return the languages of a module, such as ``Go``; none if the module does not say."""
    languages: set[str] = set()
    try:
        for section in iter_sections(module):
            if section.id == CUSTOM:
                languages.update(_read(BinaryReader(module, section.body, section.stop)))
    except ModuleRefused:
        return frozenset()
    return frozenset(languages)


def _read(reader: BinaryReader) -> list[str]:
    """Return the languages of a custom section, which is one of another name in most cases."""
    found: list[str] = []
    if reader.read_name() != _NAME:
        return found
    for _ in range(reader.read_count()):
        field = reader.read_name()
        for _ in range(reader.read_count()):
            value = reader.read_name()
            reader.read_name()  # The version.
            if field == _FIELD:
                found.append(value)
    return found
