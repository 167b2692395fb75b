"""A run and its job from submission to end: waiting, claimed, watched, ended or taken back.

``pipelines.sources`` has what a run builds from; ``pipelines.logs`` has what it printed.
"""
