"""The pictures of the README and of docs/explanation: `python -m scripts.pictures`, or `make pictures`, draws them.

Each is drawn twice, for a light and a dark page, in docs/images; the same sources make the same files.
"""
