"""Nets against other libraries, on the same net, samples and machine."""
