"""Lesson 08: feed-forward."""
