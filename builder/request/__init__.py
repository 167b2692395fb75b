"""What a build is asked for, and what it answers: values only, which the command line and a worker fill in alike.

Nothing in here does anything.

"""
