"""The page of a net: `ncc report`, `ncc view`."""
