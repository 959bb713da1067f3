"""Pipes of this machine on Windows: kernel32."""
