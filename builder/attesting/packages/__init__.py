"""Finds the packages of an image in the databases that package managers left in its files.

``scan`` reads the layers' tars once, in place. Each kind of database has a module here. An image may say anything, so
the data from it is bounded; what cannot be read is left out with a warning.
"""
