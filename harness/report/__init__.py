"""What a finished folder shows: reports as HTML files, answers, lists of runs and differences between two runs."""
