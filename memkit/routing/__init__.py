"""Routers: weights or text, question by question."""
