"""Base models: weights to start from."""
