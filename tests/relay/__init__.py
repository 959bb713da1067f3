"""Relays, between real processes."""
