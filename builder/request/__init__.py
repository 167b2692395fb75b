"""What a build is asked for: values only, which the command line and a worker fill in alike.

Nothing in here does anything. What a build answers is ``builder.result``.
"""
