"""The commands of ``shiplap runs``, a module each; ``group`` puts them together.

What commands of other groups need as well lies in ``cli`` itself.
"""
