"""What `npipe demo` shows. It needs nothing beside npipe: a bare `pip install npipe` has it."""
