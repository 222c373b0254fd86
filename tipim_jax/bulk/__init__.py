"""Photos by the million: sharded over devices and processes, resumable, every photo exactly once."""
