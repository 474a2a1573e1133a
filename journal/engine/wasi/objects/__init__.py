"""Objects inside the guest: pipes, event counters and sockets that do not reach the host."""
