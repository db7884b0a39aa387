"""Releases -> NeMo manifests: text rules, audio, rows."""
