"""What `npipe doctor` looks at: each module has the checks of one part of a machine."""
