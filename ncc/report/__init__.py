"""A net in other words: texts for people, not for the compiler."""
