"""One module for each page, with `page(view, parameters)`."""
