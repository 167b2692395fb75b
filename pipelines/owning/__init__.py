"""Ownership: what belongs to a project by its name, and what a project was given of others.

``pipelines.accounts`` says who may change this; ``pipelines.projects`` has a project's settings.
"""
