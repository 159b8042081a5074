"""One file per kind of step. Each registers how the GPU runs it. New files are found by themselves."""
