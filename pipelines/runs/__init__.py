"""A run from its submission to its end: waiting, claimed, watched, ended or taken back.

``pipelines.sources`` has what a run builds from; ``pipelines.logs`` has what it printed.
"""
