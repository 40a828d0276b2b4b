"""What the client does, as pure functions and generators: no socket, no clock, no event loop."""

from shardcache.flows.ledger import Ledger
from shardcache.flows.requests import Request, Requests
from shardcache.flows.steps import Batch, Exchange, Flow, Outcome

__all__ = ("Batch", "Exchange", "Flow", "Ledger", "Outcome", "Request", "Requests")
