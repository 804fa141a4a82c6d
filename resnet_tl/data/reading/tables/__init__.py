"""Tables that label images: files, columns, rows, and the images that they name."""
