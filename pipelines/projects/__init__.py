"""What a project is: its settings and hooks, what its runs may name, and how its images are called.

What it was given that is not its own is ``pipelines.owning``'s; its runs are ``pipelines.runs``'.
"""
