"""One module per page, with `page(view, parameters)`."""
