"""Datasets: immutable versions of validated systems."""
