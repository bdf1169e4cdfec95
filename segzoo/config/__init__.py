"""The configuration of a run: schema and loading."""
