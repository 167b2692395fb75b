"""/git/NAME.git: the bare repositories of ROOT/git over git's smart protocol, for people and workers.

``application`` knows the protocol's addresses and checks rights. ``backend`` runs ``git http-backend`` as a process,
with a configuration and an environment of ours, never as root. ``admission`` bounds how many run at once. See
docs/decisions/0020-repositories-are-served-over-http.md.
"""
