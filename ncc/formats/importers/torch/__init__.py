"""Modules of torch, and programs that torch exports."""
