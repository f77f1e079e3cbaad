"""Transfer plans, as far as they are the same for every engine: sections, refusals, the plan put together."""
