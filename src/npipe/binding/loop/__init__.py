"""The binding for event loops."""
