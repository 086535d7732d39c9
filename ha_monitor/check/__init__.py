"""Checks that find problems before an instance is started."""
