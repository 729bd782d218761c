"""Passes up to the graph: names resolved, neurons ordered, merged, pruned."""
