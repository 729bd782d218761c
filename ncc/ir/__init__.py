"""The levels: each a type with a verifier, a text and an interpreter."""
