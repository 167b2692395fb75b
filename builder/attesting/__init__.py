"""Attestations: statements that go out with an image: how it was built (SLSA provenance), what is in it (SPDX).

Statements have in-toto's form. ``builder.exporting.packing`` attaches them to the image. ``builder.attesting.packages``
finds which packages are in an image. Neither runs anything of the image.
"""
