"""Who asks: people, their sessions and tokens, runs' tokens, what each may do, and the book of what was done.

Which request may pass is decided in ``web.guard``, by what is here.
"""
