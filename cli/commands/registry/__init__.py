"""The commands of ``shiplap registry``, a module each; ``group`` puts them together.

``admin`` has what several of them share. What commands of other groups need as well lies in ``cli`` itself.
"""
