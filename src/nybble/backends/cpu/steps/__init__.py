"""One file per kind of step. Each registers how the engine plans and runs it; a new file needs no list."""
