"""The network, its halting and its losses: pure functions of arrays."""
