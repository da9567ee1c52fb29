"""Lesson 14: your LLM."""
