"""An exception of one's own for everybody who waited for the same load."""

from copy import copy

from shardcache.flows.steps import LoaderEnded

__all__ = ("copy_error",)


def copy_error(error: Exception) -> Exception:
    """Return a copy of ``error``, with its arguments, attributes, cause and traceback.

    A raise adds to the traceback of the object that is raised, and callers change what they catch
    (``add_note``, attributes). So each caller gets an object of its own. Where a type cannot be
    copied, the object itself is returned: that is better than to hide what went wrong.
    """
    if isinstance(error, LoaderEnded):
        return LoaderEnded(_copied(error.error))
    found = _copied(error)
    return found if isinstance(found, Exception) else error


def _copied(error: BaseException) -> BaseException:
    try:
        found: BaseException = copy(error)
        if type(found) is not type(error):
            return error
        found.__cause__, found.__context__ = error.__cause__, error.__context__
        found.__suppress_context__ = error.__suppress_context__
        notes = getattr(error, "__notes__", None)
        if notes is not None:
            found.__notes__ = list(notes)
        return found.with_traceback(error.__traceback__)
    except Exception:  # noqa: BLE001  somebody's __reduce__ or __init__ may raise anything
        return error
