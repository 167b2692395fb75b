"""``shiplap doctor --service``: tries what an administrator would try by hand, each within a time limit.

- ``running``: runs the looks at the same time, each in a process of its own.
- ``registries``, ``addresses``: the looks that need a registry's client, or containers.

The other looks, and what a look has found, are ``pipelines.examination``'s, which the service's page has, too.

A look is a generator of findings. If it hangs or dies, that is a finding too, and the other looks go on.
"""
