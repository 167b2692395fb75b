"""The commands of ``shiplap cache``, a module each; ``group`` puts them together.

``filters`` has what several of them share. What commands of other groups need as well lies in ``cli`` itself.
"""
