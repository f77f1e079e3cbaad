"""The contract between control plane, worker and client. Imports pydantic and the standard library only."""
