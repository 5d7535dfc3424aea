"""More than one machine: scoring files of any number and size."""
