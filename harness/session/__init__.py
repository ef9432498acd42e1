"""From settings to a checked task, pool, engine and judges, and the one evaluator of rows."""
