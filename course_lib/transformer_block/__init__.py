"""Phase 2: attention, residual connections, normalization, feed-forward, repeated N times."""
