#!/bin/sh
# -I: ignore Python variables of the caller's environment, and modules in the current folder.
exec /usr/lib/ha-monitor/bin/python3 -I -m ha_monitor "$@"
