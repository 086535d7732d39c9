#!/bin/sh
# The secrets that systemd gives to the service are root's to use in a shell, too: for check and status.
if [ -z "${CREDENTIALS_DIRECTORY-}" ] && [ -x /etc/ha-monitor/credentials ]; then
    export CREDENTIALS_DIRECTORY=/etc/ha-monitor/credentials
fi
# -I: nothing from the caller's environment or folder gets into the program.
exec /usr/lib/ha-monitor/bin/python3 -I -m ha_monitor "$@"
