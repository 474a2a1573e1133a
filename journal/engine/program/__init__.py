"""Loading, instrumentation, compilation and caching of the guest module."""
