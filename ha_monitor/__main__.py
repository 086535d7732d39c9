"""`python -m ha_monitor`."""

import sys

from ha_monitor.cli import main

if __name__ == "__main__":
    sys.exit(main())
