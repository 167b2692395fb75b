"""What tests of several rooms share: the command as a subprocess, and the host's state before and after."""
