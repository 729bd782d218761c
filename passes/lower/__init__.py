"""Passes from the plan to ssa: the forward, backward and training functions."""
