"""``make soak``: a long run with faults. Processes die, inputs lie, and what was promised still holds."""
