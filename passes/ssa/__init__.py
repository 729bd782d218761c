"""Passes over ssa: fewer ops, plainer ops, shorter functions."""
