"""Pages whose bytes stand in the journal already: looking them up, and finding them again."""

from journal.pages.resolver import Resolver, has_references

__all__ = ["Resolver", "has_references"]
