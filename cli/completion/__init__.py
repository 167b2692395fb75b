"""What a shell offers when the tab key is pressed: words of commands, options, and names of what there is."""
