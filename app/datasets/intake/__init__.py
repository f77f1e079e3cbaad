"""Reading what people send as data. Runs in a process of its own, under limits, and never unpickles anything."""
