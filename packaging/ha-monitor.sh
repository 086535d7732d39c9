#!/bin/sh
# In a shell, root's check and status use the same secrets that systemd passes to the service.
if [ -z "${CREDENTIALS_DIRECTORY-}" ] && [ -x /etc/ha-monitor/credentials ]; then
    export CREDENTIALS_DIRECTORY=/etc/ha-monitor/credentials
fi
# -I: ignore Python variables of the caller's environment, and modules in the current folder.
exec /usr/lib/ha-monitor/bin/python3 -I -m ha_monitor "$@"
