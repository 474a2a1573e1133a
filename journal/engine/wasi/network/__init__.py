"""The network of a guest: what it may reach, and what it asks its host for."""
