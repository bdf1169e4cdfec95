"""Files from the network: downloads that go on where they broke off, and archives unpacked without trust.

Imports only files, progress and errors: data sets and weights of others are fetched the same way.
"""
