"""What people see of a run: live screen, plain lines, tables."""
