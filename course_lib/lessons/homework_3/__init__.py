"""Homework 3: prediction and generation."""
