# Every target sets up what it needs: a virtual environment in .venv, and services from Debian's packages.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SUDO := $(shell [ "$$(id -u)" = 0 ] || command -v sudo)

.PHONY: help
help:
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

# --- what the targets stand on -------------------------------------------------------------

# Installs the Debian packages named in $(1), when a command named in $(2) is missing.
define debian_packages
	@set -e; for command in $(2); do \
	  PATH="$$PATH:/usr/sbin:/usr/lib/rabbitmq/bin" command -v $$command >/dev/null && continue; \
	  echo "installing $(1)"; \
	  printf '#!/bin/sh\nexit 101\n' | $(SUDO) sh -c 'test -e /usr/sbin/policy-rc.d || { cat > /usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d; touch /tmp/.ha-monitor-policy; }'; \
	  $(SUDO) apt-get update -qq; \
	  $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(1); \
	  $(SUDO) sh -c 'test ! -e /tmp/.ha-monitor-policy || rm -f /tmp/.ha-monitor-policy /usr/sbin/policy-rc.d'; \
	  break; \
	done
endef
