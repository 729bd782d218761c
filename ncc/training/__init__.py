"""Training around the compiled step."""
