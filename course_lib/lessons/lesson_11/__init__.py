"""Lesson 11: training."""
