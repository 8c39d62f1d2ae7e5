"""What `backups doctor` looks at: each check of a part of the installation yields what it found."""
