"""Noise and rooms: sets to train with, and noisy copies of test sets."""
