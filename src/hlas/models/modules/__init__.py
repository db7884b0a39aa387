"""Modules of our own that a model YAML names by `_target_`, beside NeMo's; a `.nemo` made with them needs hlas."""
