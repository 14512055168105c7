"""Predict with the models of a finished run."""
