"""What the client does, as pure functions and generators: no socket, no clock, no event loop."""

from shardcache.flows.operations import Request, Requests
from shardcache.flows.reply_policy import ReplyPolicy
from shardcache.flows.steps import Batch, Exchange, Flow, Outcome

__all__ = ("Batch", "Exchange", "Flow", "Outcome", "ReplyPolicy", "Request", "Requests")
