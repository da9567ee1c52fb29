"""Homework 4: your LLM."""
