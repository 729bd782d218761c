"""The passes: one function a file, flat."""
