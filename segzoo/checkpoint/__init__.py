"""What a trained network is kept in: training checkpoints and saved folders, which describe themselves.

They are read without executing anything from them, and written whole or not at all. Imports networks, data and the
configuration; tasks, prediction and training build on it.
"""
