"""Untrusted text: escaped where a person reads it, and redacted where it is stored or written."""
