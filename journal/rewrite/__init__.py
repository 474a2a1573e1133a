"""Support for operations that write one journal from another."""
