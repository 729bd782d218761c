"""Nets that are made: of layers, of filters, over time, at random. A family a file; `kinds.py` is
the table of them."""
