"""What operators look at: health and metrics of an instance, over HTTP."""
