"""From what the cells do to what the microscope does: rules and actions."""
