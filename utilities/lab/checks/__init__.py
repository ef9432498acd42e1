"""One file a check, or a few that look at the same thing; each is a function from stored scores to a `Finding`."""
