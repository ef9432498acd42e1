"""Builds and measures the bundled model families; never imported by the rest of the package."""
