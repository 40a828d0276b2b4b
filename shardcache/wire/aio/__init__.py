"""The asyncio half: one event loop, shared connections."""
