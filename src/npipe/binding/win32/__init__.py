"""The binding for npipe.win32."""
