"""The commands of ``shiplap project``, a module each; ``group`` puts them together.

``options`` has what several of them share. What commands of other groups need as well lies in ``cli`` itself.
"""
