"""Language models: the only room that knows architectures."""
