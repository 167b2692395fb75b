"""The commands of ``shiplap image``, a module each; ``group`` puts them together.

``changes`` reads ``--change`` of ``import``. What commands of other groups need as well lies in ``cli`` itself.
"""
