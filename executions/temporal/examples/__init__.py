"""Example workflows, to be seen and tried."""
