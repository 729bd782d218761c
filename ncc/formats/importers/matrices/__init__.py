"""Matrices and edge lists: scipy.sparse, numpy, Matrix Market, SNAP, Graph Challenge."""
