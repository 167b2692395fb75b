"""What jobs report of themselves: results of tests, coverage, a summary. Pure but for reading the files.

A report that cannot be read is a note beside the others, and never the job's failure.
"""
