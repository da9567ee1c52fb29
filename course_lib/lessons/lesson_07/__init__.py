"""Lesson 07: residual path and normalization."""
