"""What runs are built from: contexts that somebody sent, and git repositories."""
