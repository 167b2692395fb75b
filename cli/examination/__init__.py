"""``shiplap doctor --service``: tries what an administrator would try by hand, each within a time limit.

- ``findings``: what a look has found.
- ``running``: runs the looks at the same time, each in a process of its own.
- ``stores``, ``registries``, ``addresses``, ``host``: the looks.

A look is a generator of findings. If it hangs or dies, that is a finding too, and the other looks go on.
"""
