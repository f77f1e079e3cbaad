"""Blobs (content-addressed bytes) and artifacts (derived things kept by key)."""
