"""Lesson 09: the stack of N blocks."""
