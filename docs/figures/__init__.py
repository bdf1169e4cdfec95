"""The figures of the documentation, drawn from the tables that build the networks."""
