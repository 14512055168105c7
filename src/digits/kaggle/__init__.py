"""Kaggle's client, its answers verified."""
