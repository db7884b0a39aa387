"""Labels of CTC models: characters and SentencePiece pieces."""
