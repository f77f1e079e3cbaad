"""The torch-free half of every engine: schema, defaults, resolution, naming."""
