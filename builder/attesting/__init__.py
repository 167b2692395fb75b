"""What is said of an image and goes with it: how it was built (SLSA provenance), and what is in it (SPDX).

Statements are in-toto's. How they are attached is ``builder.exporting.packing``'s; which packages are in an image is
found by ``builder.attesting.packages``. Neither runs anything of the image.
"""
