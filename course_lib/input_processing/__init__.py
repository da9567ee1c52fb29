"""Phase 1: from text to the vectors that enter the transformer."""
