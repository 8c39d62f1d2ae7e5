"""What a backup is: pure Python, no Prefect, no network, no clock of its own."""
