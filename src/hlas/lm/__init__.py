"""Text -> KenLM n-gram models."""
