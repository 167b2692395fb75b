"""What is a project's by its name, and what it was given that is not its own.

Who may change it is ``pipelines.accounts``'; what a project is set to is ``pipelines.projects``'.
"""
