"""SSH: what every door shares that goes through it: keys, the socket, the way in, and what can go wrong on it."""
