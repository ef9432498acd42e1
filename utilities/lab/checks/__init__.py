"""One file per check or group of checks; each is a function from stored scores to a `Finding`."""
