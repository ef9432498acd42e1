"""The analyses of the Model Swarms paper (arXiv 2410.11163), each with a control and an interval."""
