"""Access to the linear memory of a guest from outside the guest."""
