"""The torch half of every engine."""
