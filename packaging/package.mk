# The artifacts, in dist/: a wheel and a source archive for pip, and a Debian package for each release.

SUITES := bookworm trixie
PYTHON_VERSIONS := 3.11 3.13
WHEELHOUSE := build/wheelhouse
BUILD_TOOLS := .venv-build
# A folder for the systems that the packages are built in, which the tests share; without, each working copy has its own.
KEPT_ROOTS ?=
# What is in them, and how they are made.
PACKAGED := setup.cfg pyproject.toml README.md CHANGELOG.md \
  $(shell find ha_monitor systemd packaging docs -type f -not -path '*/__pycache__/*')

.PHONY: deb
deb: deb-tools $(WHEELHOUSE)/.fetched ## Debian packages for Debian 12 and 13, in dist/
	@$(MAKE) --no-print-directory --jobs=2 $(SUITES:%=dist/.deb-%)
	@ls -l dist/*.deb

# Made by the user: root builds the packages, and what root made nobody else could write to.
dist:
	@mkdir -p $@

# How well the packages are compressed (as Debian does, if nothing is said): what is released is never a test's.
dist/.level: always | dist
	@echo '$(DPKG_DEB_COMPRESSOR_LEVEL)' | cmp -s - $@ || echo '$(DPKG_DEB_COMPRESSOR_LEVEL)' >$@

.PHONY: always

dist/.deb-%: $(PACKAGED) $(WHEELHOUSE)/.fetched dist/.level | dist
	@$(SUDO) packaging/build-root $* build/roots/$* $(KEPT_ROOTS)
	@$(SUDO) packaging/build-deb $* build/roots/$* $(WHEELHOUSE) dist
	@touch $@

.PHONY: wheel
wheel: dist/.wheel ## wheel and source archive, in dist/

dist/.wheel: $(PACKAGED) $(BUILD_TOOLS)/.ready
	@$(BUILD_TOOLS)/bin/python -m build --outdir dist .
	@touch $@

.PHONY: lock
lock: $(BUILD_TOOLS)/.ready # the versions and hashes of the libraries in the Debian package
	@$(BUILD_TOOLS)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
	  --no-annotate --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' \
	  setup.cfg --output-file packaging/requirements.lock

.PHONY: deb-tools
deb-tools:
	$(call debian_packages,mmdebstrap debian-archive-keyring lintian git,\
	command -v mmdebstrap && command -v lintian && command -v git)

$(WHEELHOUSE)/.fetched: packaging/requirements.lock packaging/fetch packaging/package.mk | $(READY)
	@echo "fetching the libraries of the Debian package"
	@rm -rf $(WHEELHOUSE)
	@packaging/fetch $(BIN)/python $(WHEELHOUSE) $(PYTHON_VERSIONS)
	@touch $@

$(BUILD_TOOLS)/.ready: packaging/package.mk | python-tools
	$(call environment,$(BUILD_TOOLS),the build tools,build==1.6.1 uv==0.13.9)
	@touch $@
