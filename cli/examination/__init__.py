"""``shiplap doctor --service``: what an administrator would try by hand, each within a bound.

- ``findings``: what a look has found.
- ``running``: looks at work, each in a process of its own, at the same time.
- ``stores``, ``registries``, ``addresses``, ``host``: the looks.

A look is a generator of findings. It may hang or die: that is a finding, too, and the others go on.
"""
