"""The classifier object."""
