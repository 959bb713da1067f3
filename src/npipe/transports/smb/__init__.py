"""Pipes of other machines, over SMB 2.1 to 3.1.1. smbprotocol (the extra `smb`) speaks it."""
