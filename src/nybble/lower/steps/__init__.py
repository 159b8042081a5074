"""One file per kind of step. Each registers the lowerings of its node types; a new file needs no list."""
