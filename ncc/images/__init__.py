"""Nets as data: the blocks of memory that engines evaluate."""
