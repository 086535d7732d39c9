"""The loop: receive, decode, merge, announce, acknowledge."""
