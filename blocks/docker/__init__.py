"""Docker on the server of a source: its containers and volumes, reached by the ``docker`` command of that server."""
