"""Pages whose bytes stand in the journal already: looking them up, and finding them again."""

from journal.pages.resolver import PageResolver, has_references

__all__ = ["PageResolver", "has_references"]
