"""The compiler as a whole: its pipeline, what watches it, what it can emit."""
