"""The command line: `main.py`, the options in `options.py`, and one file a verb.

Nothing heavy is imported before it is needed.
"""
