"""The benchmark: that it runs, that it finds what is not what was sent, and what it makes of numbers."""
