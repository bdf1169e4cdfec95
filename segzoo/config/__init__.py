"""The configuration of a run: its schema, the only home of defaults, and how it is read, checked and explained.

Imports registries, plug-ins and errors, and no torch; every other package imports it.
"""
