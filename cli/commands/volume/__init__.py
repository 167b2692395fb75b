"""The commands of ``shiplap volume``, a module each; ``group`` puts them together."""
