#!/usr/bin/env python
"""Runs Nexus' management commands; `manage.py help` lists them."""

import os
import sys

from django.core.management import execute_from_command_line
from environs import EnvError

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "nexus_project.settings")
    try:
        execute_from_command_line(sys.argv)
    except EnvError as error:
        sys.exit(f"{error} README.md lists the settings and what they accept.")
