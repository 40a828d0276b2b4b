"""What one client costs, without a peer beside it: floors of a call, memory, start."""
