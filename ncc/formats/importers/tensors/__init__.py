"""Nets of arrays as neurons: layers, attention and recurrent cells, for every tool alike."""
