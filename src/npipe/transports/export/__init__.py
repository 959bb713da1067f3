"""Pipes of this machine for clients of others: Samba's smbd speaks SMB with them, and hands each one on here."""
