"""Homework 1: input processing."""
