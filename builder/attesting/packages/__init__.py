"""Which packages are in an image, by what package managers left in its files.

``scan`` reads the layers' tars once, in place; a database is a module of its own here. What is found is data from an
image, which may say anything: it is bounded, and what cannot be read is left out with a warning.
"""
