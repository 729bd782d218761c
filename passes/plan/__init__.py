"""Passes from the graph to the plan: forms of functions, work slots."""
