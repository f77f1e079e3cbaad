"""MiniMind, small language models: the torch-free half. The other half is `worker.engines.minimind`."""
