"""What ``"shardcache.contrib.django"`` in INSTALLED_APPS brings: checks, and a command."""

from django.apps import AppConfig
from django.core.checks import Tags, register

from shardcache.contrib.django.checks import check_caches

__all__ = ("ShardCacheConfig",)


class ShardCacheConfig(AppConfig):
    """The application; it has no models, and the backend works without it."""

    name = "shardcache.contrib.django"
    label = "shardcache"

    def ready(self) -> None:
        """Have ``manage.py check`` look at the caches too."""
        register(check_caches, Tags.caches)
