"""Pipes of this machine on Linux: the engine."""
