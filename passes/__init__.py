"""The passes: one function a file, a folder a level."""
