"""The commands of `tipim`, one module each: its options and what it prints."""
