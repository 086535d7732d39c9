"""What is answered to each question, whoever asks: the command line, the pages and the interface for programs."""
