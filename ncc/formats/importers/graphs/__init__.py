"""Graphs of nodes and edges with attributes: NetworkX, GraphML, node-link JSON."""
