"""The event loops that npipe.aio runs on."""
