"""How values are stored for Django: as pickles, with a signature made by keys of the site's own."""

import pickle

from django.conf import settings
from django.utils.crypto import salted_hmac

from shardcache.codecs.serializers import PickleSerializer
from shardcache.errors import SerializationError

__all__ = ("DjangoPickles", "NotPicklable", "site_keys")

_SALT = "shardcache.contrib.django"


class NotPicklable(SerializationError, pickle.PicklingError):
    """A value cannot be pickled. It is a `pickle.PickleError` too, as callers of Django expect."""


class DjangoPickles(PickleSerializer):
    """Pickles whose failures are those of `pickle`."""

    def dumps(self, value: object) -> bytes:
        """Return the pickle; raise `NotPicklable`."""
        try:
            return super().dumps(value)
        except Exception as error:
            raise NotPicklable(
                f"a {type(value).__qualname__} cannot be pickled: {type(error).__name__}: {error}"[
                    :300
                ]
            ) from error


def site_keys() -> list[bytes]:
    """Return the keys for signatures: of SECRET_KEY, then of SECRET_KEY_FALLBACKS.

    The first signs, all are accepted. They are derived, so that they are of no use for anything
    else that the site signs.
    """
    secrets = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return [
        salted_hmac(_SALT, "values", secret=secret, algorithm="sha256").digest()
        for secret in secrets
    ]
