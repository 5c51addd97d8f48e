"""Loaders: each upstream format becomes facts, questions and passages."""
