"""Passes out of ssa: LLVM text, C text."""
