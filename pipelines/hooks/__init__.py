"""Webhooks, from what a forge sent to runs.

- ``receiving``: takes a request, checks it, writes the delivery and its runs in one transaction.
- ``planning``: what is to be done about an event; pure.
- ``deliveries``, ``approvals``: what was received, and what waits for somebody to look at it.
- ``pending``: pushes that hooks of bare repositories kept while no web process took them.

What a project wants built is ``pipelines.projects``'; how forges write is ``pipelines.forges``'; what they are told of
runs is ``pipelines.statuses``'. HTTP to receive and show all this is ``web``'s.
"""
