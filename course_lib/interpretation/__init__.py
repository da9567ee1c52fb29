"""What a trained model does inside: scores of attention heads, ablations, the logit lens, linear probes."""
