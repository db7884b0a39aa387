"""Log-probs -> hypotheses: greedy and beam search, alpha and beta tuned on dev."""
