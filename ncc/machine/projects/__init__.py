"""Folders that other build systems take as they are: a compiled net as a library of theirs."""
