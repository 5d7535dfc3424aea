"""Where people try the model."""
