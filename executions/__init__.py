"""What is true: executions, their activities, the one write path and the event log."""
