"""Opens a checked task, expert pool, engine and judges from settings; evaluates rows of coefficients."""
