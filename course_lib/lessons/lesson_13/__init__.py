"""Lesson 13: the generation loop."""
