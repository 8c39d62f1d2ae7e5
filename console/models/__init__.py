"""What the REST API takes and gives. Times are RFC 3339, in UTC; sizes are bytes; names are those of blocks."""
