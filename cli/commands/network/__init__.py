"""The commands of ``shiplap network``, a module each; ``group`` puts them together."""
