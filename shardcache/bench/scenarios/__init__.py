"""Scenarios as a table of data: what is called, on which values and servers, and beside whom."""
