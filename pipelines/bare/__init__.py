"""Bare repositories beside the service, below ROOT/git: made here, and pushed to by path or over HTTP.

``making`` makes them. ``post_receive`` is their hook, a program of its own that needs Python and git only.
``inspecting`` says whether one is fit to be served to others than its owner; ``web.gitserving`` does that.
"""
