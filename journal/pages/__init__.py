"""Memory pages: encoding, references to repeated pages, their resolution, and the page index."""

from journal.pages.resolver import PageResolver, has_references

__all__ = ["PageResolver", "has_references"]
