"""Clips: read, checked, converted or kept as they are."""
