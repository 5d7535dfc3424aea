"""Many trainings to answer one question: which method, which settings."""
