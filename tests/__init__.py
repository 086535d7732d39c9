"""Tests of ha-monitor."""
