"""Secrets and log-ins of the service, encrypted at rest.

The key that they are encrypted with is ``pipelines.keys``'; who may use them is written in ``pipelines.owning``.
"""
