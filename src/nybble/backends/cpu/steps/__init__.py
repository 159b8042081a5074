"""One file per kind of step. Each registers how the engine plans and runs it. New files are found by themselves."""
