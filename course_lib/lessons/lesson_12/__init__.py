"""Lesson 12: sampling."""
