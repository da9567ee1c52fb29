"""Lesson 00: from prompt to response."""
