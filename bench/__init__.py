"""Shiplap against BuildKit and buildah, side by side on one machine: ``python -m bench``, or ``make bench``.

``workloads`` makes the build contexts, ``tools`` runs each builder as a user would (its whole command is timed, from
start to exit), ``rounds`` says what is measured in which order, ``report`` sums it up. ``growth`` measures Shiplap
alone. Nothing here imports Shiplap: it is measured as the program that it is.
"""
