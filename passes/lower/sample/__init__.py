"""Passes over one sample, after a forward pass that keeps its values and derivatives."""
