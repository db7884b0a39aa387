"""Whisper fine-tuned: base weights, adapters, a Lightning module, what is saved; the parts of finetune_stage."""
