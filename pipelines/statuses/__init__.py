"""What forges are told of runs: written down with the run's change of state, and sent afterwards."""
