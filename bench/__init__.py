"""Benchmarks: npipe beside its peers, all measured in one run. Start with ``python -m bench``."""
