"""The admin's own view: a REST API and HTML pages over what Prefect and the destinations hold. No truth of its own."""
