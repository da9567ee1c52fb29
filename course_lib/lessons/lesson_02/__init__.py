"""Lesson 02: token embeddings."""
