"""Code for other machines, executed in an emulator, and counted."""
