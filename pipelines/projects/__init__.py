"""What a project is: its settings and hooks, the names of its images, and what it was given that is not its own."""
