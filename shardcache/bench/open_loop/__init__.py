"""An open loop: calls that come when they are due, whether or not those before them are done."""
