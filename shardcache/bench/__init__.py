"""Benchmarks: races between clients on the same servers, and what is made of their figures."""
