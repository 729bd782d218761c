"""Interfaces of other tools, as C around a net's own functions."""
