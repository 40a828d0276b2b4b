"""Adapters: the client behind the cache interfaces of other libraries.

Each module needs the library that it is named after, and is imported by whoever uses that one.
"""
