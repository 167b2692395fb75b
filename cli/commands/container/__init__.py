"""``shiplap container``: the group, whose commands are those at the top, and its ``prune``."""
