"""File systems of a guest: mounts, in-memory trees and host directories."""
