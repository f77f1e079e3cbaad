"""Errands that workers do for the control plane."""
