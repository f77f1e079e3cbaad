"""The data plane: takes jobs from the control plane over HTTP and trains them. No database, no FastAPI."""
