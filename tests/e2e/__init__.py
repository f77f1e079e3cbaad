"""The whole service as people start it. A package, so that what its tests share ends with the last of them."""
