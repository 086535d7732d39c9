# The artifacts, in dist/: a wheel and a source archive for pip, and a Debian package for each release.

SUITES := bookworm trixie
PYTHON_VERSIONS := 3.11 3.13
WHEELHOUSE := build/wheelhouse
BUILD_TOOLS := .venv-build

.PHONY: deb
deb: deb-tools $(WHEELHOUSE)/.fetched ## Debian packages for Debian 12 and 13, in dist/
	@for suite in $(SUITES); do \
	  $(SUDO) packaging/build-root $$suite build/roots/$$suite && \
	  $(SUDO) packaging/build-deb $$suite build/roots/$$suite $(WHEELHOUSE) dist || exit; \
	done
	@ls -l dist/*.deb

.PHONY: wheel
wheel: $(BUILD_TOOLS)/.ready ## wheel and source archive, in dist/
	@$(BUILD_TOOLS)/bin/python -m build --outdir dist .

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

$(BUILD_TOOLS)/.ready: packaging/package.mk
	$(call debian_packages,python3-venv,$(PYTHON) -c 'import ensurepip$(comma) venv')
	@test -x $(BUILD_TOOLS)/bin/python || $(PYTHON) -m venv $(BUILD_TOOLS)
	@$(BUILD_TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check build==1.6.1 uv==0.13.9
	@touch $@
