"""MiniMind, small language models: the torch half. The other half is `app.engines.minimind`."""
