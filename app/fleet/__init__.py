"""The workers, and the background work that keeps jobs moving when something dies."""
