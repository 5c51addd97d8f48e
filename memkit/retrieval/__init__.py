"""Non-parametric memory: retrievers that put text in the prompt."""
