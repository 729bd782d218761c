"""Engines: machine code that evaluates any net of some kinds, from an image of it."""
