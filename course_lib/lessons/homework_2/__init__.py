"""Homework 2: the transformer block."""
