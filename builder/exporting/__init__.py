"""What becomes of a build's result: configs and manifests, files, archives, names in the store, pushes.

Nothing in here runs a step or knows a Dockerfile.
"""
