"""What is kept and for how long: backups of all that a service knows, and retention."""
