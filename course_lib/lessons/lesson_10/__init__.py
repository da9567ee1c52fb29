"""Lesson 10: logits and softmax."""
