"""Phase 3: logits, probabilities, sampling, and the loop that generates text."""
