"""The language of pipeline files, declared once: shapes of values, the words that they are made of, and all keys.

Nothing in here knows a run, an event or another file; what shows only beside other parts is ``ci.checks``'.
"""
