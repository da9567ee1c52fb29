"""Lesson 03: positions."""
