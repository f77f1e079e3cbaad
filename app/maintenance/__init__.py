"""Keeping the store in order: what nothing needs is removed, what is damaged is found, all of it is backed up."""
