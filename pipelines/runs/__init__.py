"""A run from its submission to its end: waiting, claimed, watched, ended or taken back.

What it builds from is ``pipelines.sources``'; what it printed is ``pipelines.logs``'.
"""
