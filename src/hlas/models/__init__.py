"""Acoustic models: trained, restored, run; Whisper beside them."""
