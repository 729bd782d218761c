"""Nets to files of other tools, and to formulas. A format a file; `registry.py` is the table."""
