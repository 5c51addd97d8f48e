"""Tiny models and contract suites, shipped to users who add a method of their own."""
