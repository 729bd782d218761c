"""The compiled net as a callable."""
