"""Secrets and log-ins of the service, encrypted at rest.

``pipelines.keys`` has the key; ``pipelines.owning`` says who may use the secrets.
"""
