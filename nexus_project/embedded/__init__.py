"""The servers Nexus brings along: started, found and stopped as one with `manage.py up`."""
