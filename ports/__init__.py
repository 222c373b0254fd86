"""Flax ports of face-recognition networks and the conversion of their weights."""
