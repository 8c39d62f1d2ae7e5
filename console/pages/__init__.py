"""The HTML pages: one file per noun, of the same functions as the REST API."""
