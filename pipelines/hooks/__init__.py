"""Webhooks, from what a forge sent to runs.

- ``receiving``: takes a request, checks it, writes the delivery and its runs in one transaction.
- ``planning``: decides what to do about an event; pure.
- ``deliveries``, ``approvals``: what was received, and what waits for somebody to look at it.
- ``pending``: pushes that hooks of bare repositories kept while no web process took them.

Elsewhere: ``pipelines.projects`` has what a project wants built, ``pipelines.forges`` how forges write, and
``pipelines.statuses`` what they learn of runs. ``web`` receives and shows all this over HTTP.
"""
