"""The run folder: files, events, records and the result's schema."""
