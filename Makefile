# Every target sets up what it needs: a virtual environment in .venv, and tools and services from Debian's packages.

# The system's Python, if it is new enough: a distribution builds it for speed. With one built by hand without
# --enable-optimizations, the unit tests take a third more time. (Python 3.11 and later have tomllib.)
SYSTEM_PYTHON := /usr/bin/python3
PYTHON ?= $(if $(shell $(SYSTEM_PYTHON) -c 'import ensurepip, tomllib, venv' 2>&1 || echo no),python3,$(SYSTEM_PYTHON))
VENV := .venv
BIN := $(VENV)/bin
SUDO := $(shell [ "$$(id -u)" = 0 ] || command -v sudo)
READY := $(VENV)/.ready
DEVELOP := $(VENV)/.develop
export PATH := $(PATH):/usr/sbin:/sbin

.DEFAULT_GOAL := help

.PHONY: help
help:
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

# --- what the targets stand on -------------------------------------------------------------

# Installs the Debian packages $(1) if the test $(2) fails. Their services are not started: policy-rc.d forbids it
# for as long as the installation runs, unless the machine has a policy of its own.
define debian_packages
	@set -e; export PATH="$$PATH:/usr/lib/rabbitmq/bin"; \
	if ! { $(2); } >/dev/null 2>&1; then \
	  echo "installing Debian packages: $(1)"; \
	  own=; if [ ! -e /usr/sbin/policy-rc.d ]; then \
	    own=1; printf '#!/bin/sh\nexit 101\n' | $(SUDO) tee /usr/sbin/policy-rc.d >/dev/null; \
	    $(SUDO) chmod +x /usr/sbin/policy-rc.d; \
	  fi; \
	  status=0; \
	  { $(SUDO) apt-get update -qq && \
	    $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(1) >/dev/null; \
	  } || status=$$?; \
	  [ -z "$$own" ] || $(SUDO) rm -f /usr/sbin/policy-rc.d; \
	  exit $$status; \
	fi
endef

.PHONY: redis rabbitmq prometheus alertmanager nginx python-tools host-tools lua-tools nftables browser
redis:
	$(call debian_packages,redis-server,command -v redis-server)

rabbitmq:
	$(call debian_packages,rabbitmq-server,command -v rabbitmq-server)

prometheus:
	$(call debian_packages,prometheus,command -v prometheus && command -v promtool)

alertmanager:
	$(call debian_packages,prometheus-alertmanager,command -v prometheus-alertmanager)

nginx:
	$(call debian_packages,nginx-light,command -v nginx || test -x /usr/sbin/nginx)

nftables:
	$(call debian_packages,nftables iproute2,command -v nft && command -v ip)

browser: build/axe/axe.min.js
	$(call debian_packages,chromium chromium-driver w3m fonts-dejavu-core iproute2,\
	command -v chromium && command -v chromedriver && command -v w3m && command -v ip)

# What judges the pages of the tests; not a part of the program.
build/axe/axe.min.js: tests/browser/fetch-axe
	$(call debian_packages,npm,command -v npm)
	@echo "fetching axe-core"
	@tests/browser/fetch-axe $(@D)
	@touch $@

lua-tools:
	$(call debian_packages,lua-check,command -v luacheck)

python-tools:
	$(call debian_packages,python3-venv,$(PYTHON) -c 'import ensurepip$(comma) venv')

host-tools:
	$(call debian_packages,systemd-container mmdebstrap debian-archive-keyring openssh-client iproute2 procps,\
	command -v systemd-nspawn && command -v mmdebstrap && command -v ssh && command -v ip && command -v pgrep)

# Makes the virtual environment $(1), and installs $(3) into it, which is said as $(2).
define environment
	@test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
	@echo "installing $(2) into $(1)"
	@$(1)/bin/python -m pip install --quiet --disable-pip-version-check $(3)
endef

$(READY): setup.cfg pyproject.toml | python-tools
	$(call environment,$(VENV),ha-monitor,--use-pep517 --editable .)
	@touch $@

$(DEVELOP): setup.cfg pyproject.toml | python-tools
	$(call environment,$(VENV),ha-monitor and the development tools,--use-pep517 --editable '.[dev]')
	@touch $(READY) $@

comma := ,

# Only root can build and install the package, and boot hosts; without, those tests are skipped.
PACKAGES := $(if $(filter 0,$(shell id -u)),deb wheel)

include packaging/package.mk
include ansible/ansible.mk

# --- for everybody -------------------------------------------------------------------------

.PHONY: demo
demo: $(READY) redis ## see three monitors, a worker, a producer and a broker at work
	@$(BIN)/ha-monitor demo $(DEMO)

# What the tests of each folder stand on; the first folder that fits counts.
TEST_FOLDERS := tests/unit tests/integration tests/browser tests/recording tests/acceptance/faults tests/acceptance tests/hosts tests/fleet
NEEDS_tests/unit :=
NEEDS_tests/integration := redis rabbitmq prometheus alertmanager nginx
NEEDS_tests/browser := redis browser
NEEDS_tests/recording := redis rabbitmq
NEEDS_tests/acceptance/faults := redis rabbitmq
NEEDS_tests/acceptance := redis rabbitmq $(PACKAGES)
NEEDS_tests/hosts := host-tools $(PACKAGES)
NEEDS_tests/fleet := $(ANSIBLE)/.ready $(ANSIBLE)-oldest/.ready host-tools prometheus $(PACKAGES)
folder_of = $(firstword $(foreach folder,$(TEST_FOLDERS),$(if $(filter $(folder) $(folder)/%,$(1)),$(folder))))
# Of TESTS those words that name a folder or something in it. Without any, pytest would run all.
CHOSEN := $(sort $(foreach word,$(TESTS),$(call folder_of,$(word))))
WANTED := $(if $(filter tests tests/,$(TESTS)),$(TEST_FOLDERS),$(or $(CHOSEN),$(TEST_FOLDERS)))

# The packages of the tests are only carried to hosts: the fastest level costs a tenth of what Debian's own does.
test test-hosts prepare-tests: export DPKG_DEB_COMPRESSOR_LEVEL := 1

# One after the other, they would leave a core idle.
.PHONY: environments
environments:
	@$(MAKE) --no-print-directory --jobs=2 $(DEVELOP) $(ANSIBLE)/.ready $(ANSIBLE)-oldest/.ready $(BUILD_TOOLS)/.ready

.PHONY: test
test: $(if $(TESTS),,environments lint-style) $(DEVELOP) $(if $(TESTS),$(sort $(foreach folder,$(WANTED),$(NEEDS_$(folder)))),redis rabbitmq prometheus alertmanager nginx) ## lint, types, and all tests against real services; TESTS=tests/unit for some
	$(BIN)/python -m $(if $(TESTS),pytest $(TESTS),tests.side_by_side)

# What takes minutes: tests.side_by_side runs it beside the tests that need none of it, and lints the rest beside them.
.PHONY: prepare-tests
prepare-tests: lua-tools $(sort $(foreach folder,$(TEST_FOLDERS),$(NEEDS_$(folder))))

.PHONY: test-hosts
test-hosts: $(DEVELOP) $(NEEDS_tests/hosts) ## the package on real Debian hosts with systemd (needs root)
	$(BIN)/python -m pytest tests/hosts

# SERVERS names another release of RabbitMQ and Redis than this machine's: tests/support/releases.py.
.PHONY: test-faults
test-faults: export TESTS_SERVERS := $(SERVERS)
test-faults: $(DEVELOP) $(NEEDS_tests/acceptance/faults) nftables $(if $(filter trixie,$(SERVERS)),host-tools) ## all injected faults, those too that take minutes; FAULTS=… for some, SERVERS=trixie
	$(BIN)/python -m pytest $(or $(FAULTS),tests/acceptance/faults) -m 'long or not long'

.PHONY: bench
bench: $(DEVELOP) redis rabbitmq ## speed, latency, memory, side by side with the plain monitor
	$(BIN)/python -m benchmarks $(BENCH)

# --- for developers ------------------------------------------------------------------------

.PHONY: lint
lint: lint-python lint-lua lint-ansible ## ruff, mypy, luacheck, ansible-lint and yamllint

.PHONY: lint-python
lint-python: lint-style lint-types ## ruff and mypy

.PHONY: lint-style
lint-style: $(DEVELOP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: lint-types
lint-types: $(DEVELOP)
	$(BIN)/mypy

.PHONY: lint-lua
lint-lua: $(DEVELOP) lua-tools ## luacheck, and what the Lua files use of each other
	$(BIN)/python -m tests.lua_lint

.PHONY: hooks
hooks: $(DEVELOP) $(ANSIBLE)/.ready ## check what make lint checks before each commit
	$(BIN)/pre-commit install

.PHONY: test-unit
test-unit: $(DEVELOP) ## the tests that need no services, in half a minute; `make test TESTS=tests/unit` has all of them
	$(BIN)/python -m pytest -n logical -m "not thorough and not long" tests/unit

SEEDS ?= 10000

.PHONY: simulate
simulate: $(DEVELOP) ## the whole fleet in simulated worlds with faults; SEEDS=10000 for as many
	$(BIN)/python -m tests.simulation --seeds $(SEEDS)

.PHONY: documents
documents: $(DEVELOP) ## write what docs and schema say of the types of events anew
	$(BIN)/python -m tests.support.documents

.PHONY: coverage
coverage: $(DEVELOP) ## which lines the tests without services cover; at least 90 % of those of the loop and the leader
	$(BIN)/python -m pytest tests/unit --cov --cov-report=term-missing:skip-covered
	$(BIN)/python -m coverage report --include='ha_monitor/pipeline/*' --fail-under=90

.PHONY: record
record: $(DEVELOP) redis rabbitmq ## record a new event stream for the tests
	$(BIN)/python -m tests.recording.record

.PHONY: dashboard
dashboard: $(DEVELOP) redis rabbitmq prometheus ## render the picture of the dashboard in docs from real data
	@mkdir -p build
	$(BIN)/python -m benchmarks.dashboard >build/dashboard.svg && mv build/dashboard.svg docs/dashboard.svg

.PHONY: screenshots
screenshots: $(DEVELOP) redis browser ## take the pictures of all pages in docs/pictures, light, dark and on a phone
	$(call debian_packages,pngquant,command -v pngquant)
	$(BIN)/python -m tests.browser.pictures docs/pictures

.PHONY: clean
clean: ## remove what the targets made
	$(SUDO) rm -rf $(VENV) .venv-* dist build *.egg-info .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis

