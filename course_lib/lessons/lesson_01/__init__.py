"""Lesson 01: text to tokens."""
