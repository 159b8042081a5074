"""Float networks as data: one vocabulary of operations, what builds them, and their integer-friendly form."""
