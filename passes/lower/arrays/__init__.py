"""What loops read of a plan, as arrays."""
