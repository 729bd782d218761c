"""Nets as Python sees them: read from a text, or generated."""
