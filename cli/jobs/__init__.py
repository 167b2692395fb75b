"""A run of jobs on this machine, as a person sees it: ``shiplap ci run`` and ``shiplap ci why``.

What is run and how is the room ``ci``'s. Here the command line becomes a request, and what the run tells becomes lines,
rows of a terminal or JSON, and a summary.
"""
