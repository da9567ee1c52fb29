"""Lesson 04: input embedding."""
