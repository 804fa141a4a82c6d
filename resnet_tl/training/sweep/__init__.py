"""A sweep: many fits that differ in some settings, and what the best of them is worth."""
