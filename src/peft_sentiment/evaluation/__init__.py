"""Predictions, metrics and the comparison of models."""
