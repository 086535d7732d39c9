# Checks the Ansible role, and proves it on real hosts.

ANSIBLE := .venv-ansible

$(ANSIBLE)/.ready: ansible/requirements.txt | python-tools
	$(call environment,$(ANSIBLE),Ansible and its linters,--requirement $<)
	@touch $@

# The oldest version that the role is for: Debian 12's. It does not run on a Python later than 3.11.
$(ANSIBLE)-oldest/.ready: ansible/requirements-oldest.txt | python-tools
	$(call environment,$(ANSIBLE)-oldest,the oldest Ansible,--requirement $<)
	@touch $@

.PHONY: lint-ansible
lint-ansible: $(ANSIBLE)/.ready ## ansible-lint and yamllint
	cd ansible && export PATH="$(CURDIR)/$(ANSIBLE)/bin:$$PATH" && \
	  yamllint --strict . && \
	  ansible-lint --offline && \
	  ansible-playbook --inventory inventory.example.yml --syntax-check site.yml uninstall.yml

.PHONY: test-fleet
test-fleet: $(DEVELOP) $(ANSIBLE)/.ready $(ANSIBLE)-oldest/.ready host-tools prometheus deb wheel ## the Ansible role on real hosts, under load (needs root)
	$(BIN)/python -m pytest tests/fleet
