"""The answer to each kind of question, the same for the command line, the pages and the interface for programs."""
