"""Access to a guest's linear memory from outside the guest."""
