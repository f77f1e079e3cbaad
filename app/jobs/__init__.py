"""Jobs: submission, state, timeline, checkpoints, logs, events."""
