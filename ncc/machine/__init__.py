"""Machine code: make it, bound its cost, describe it, keep it, load it."""
