"""Following runs: reading, waiting, who follows which."""
