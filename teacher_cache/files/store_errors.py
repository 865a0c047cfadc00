"""Errors of object stores in words: what the store refuses, and what to do about it, in one sentence without secrets.

Nothing is lost by any of them: what was sent stays, and the same command continues.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from teacher_cache.errors import ArmadaError, CacheError
from teacher_cache.files.disk import full_disk_in_words
from teacher_cache.files.urls import without_secrets

AGAIN = "then run the same command again, which continues"
_EXPIRED = ("ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired", "InvalidToken")
_REFUSED = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthorizationHeaderMalformed", "InvalidSecurity")
_DENIED = ("AccessDenied", "AllAccessDisabled", "AccountProblem", "403", "Forbidden")
_NO_CREDENTIALS = (
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "LocalTokenNotFoundError",
    "DefaultCredentialsError",
)
_EXPIRED_SIGN_IN = ("SSOTokenLoadError", "TokenRetrievalError", "UnauthorizedSSOTokenError")
_NO_PLACE = ("NoSuchBucket", "RepositoryNotFoundError", "BucketNotFoundError", "RevisionNotFoundError")
_UNREACHABLE = (
    "EndpointConnectionError",
    "ConnectTimeoutError",
    "ClientConnectorError",
    "ClientConnectorDNSError",
    "ConnectError",
    "ConnectTimeout",
    "gaierror",
    "NewConnectionError",
)
_LONGEST = 300


class UnavailableStoreError(CacheError):
    """A store refuses the credentials, does not exist or can't be reached: each file of it would fail as this one."""


class WrongBytesError(CacheError):
    """A file has not the digest that its commit states, or that it had before it was sent."""


@contextmanager
def store_errors_in_words(where: str) -> Iterator[None]:
    """Turn the errors of a remote store into CacheErrors that name `where`, except that a file does not exist.

    Raise UnavailableStoreError where no request to the store can succeed.
    """
    try:
        with full_disk_in_words("the folder for temporary files (TMPDIR)"):
            yield
    except ArmadaError:
        raise
    except Exception as error:
        reason = reason_of(error)
        if reason:
            raise UnavailableStoreError(f"{where}: {reason}") from error
        if isinstance(error, FileNotFoundError):
            raise
        text = without_secrets(" ".join(str(error).split()))[:_LONGEST]
        raise CacheError(f"{where}: the store answers {type(error).__name__}: {text}") from error


@contextmanager
def unavailable_in_words(where: str) -> Iterator[None]:
    """Turn an error after which no request can succeed into an UnavailableStoreError; others are not changed."""
    try:
        yield
    except ArmadaError:
        raise
    except Exception as error:
        if reason := reason_of(error):
            raise UnavailableStoreError(f"{where}: {reason}") from error
        raise


def reason_of(error: BaseException) -> str:
    """Return in words why a store answers nothing that is asked of it; "" if another request may succeed."""
    names = _names(error)

    def is_among(known: tuple[str, ...]) -> bool:
        return any(name in known for name in names)

    if is_among(_EXPIRED):
        return f"the credentials have expired; renew them (for example by: aws sso login), {AGAIN}"
    if is_among(_EXPIRED_SIGN_IN):
        return f"the sign-in has expired; sign in by: aws sso login, {AGAIN}"
    if is_among(_NO_CREDENTIALS):
        return (
            "no credentials were found; set those of the store (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            f"AWS_PROFILE, or HF_TOKEN), {AGAIN}"
        )
    if is_among(_NO_PLACE):
        return "no such bucket, repository or revision, or these credentials may not see it; make it first, " + AGAIN
    if is_among(_REFUSED) or 401 in names:
        return f"the store refuses the credentials ({_code(error) or 401}); correct them, {AGAIN}"
    if is_among(_DENIED) or 403 in names or _is_denied(error):
        return f"access is denied (403); the credentials need the right to list, read and write: ask for it, {AGAIN}"
    if is_among(_UNREACHABLE):
        return f"the store can't be reached; check the address and the network, {AGAIN}"
    if "OfflineModeIsEnabled" in names:
        return f"HF_HUB_OFFLINE forbids requests to the Hub; unset it, {AGAIN}"
    if 429 in names:
        return f"the store allows no more requests for now (429); wait some minutes, {AGAIN}"
    return ""


def is_taken(error: BaseException) -> bool:
    """Return whether a conditional put was refused because the file exists."""
    names = _names(error)
    return isinstance(error, FileExistsError) or any(name in names for name in ("PreconditionFailed", "412", 412))


def knows_no_condition(error: BaseException) -> bool:
    """Return whether a store refuses a put because it has no conditional ones."""
    return any(name in _names(error) for name in ("NotImplemented", "501", 501))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that caused it."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or found.__context__


def _names(error: BaseException) -> set[str | int]:
    """Return the class names, the error codes of S3 and the HTTP statuses of an error and its causes."""
    names: set[str | int] = set()
    for found in _chain(error):
        names |= {kind.__name__ for kind in type(found).__mro__}
        response: Any = getattr(found, "response", None)
        if isinstance(response, dict):
            names.add(str(response.get("Error", {}).get("Code", "")))
        elif isinstance(status := getattr(response, "status_code", None), int):
            names.add(status)
        if isinstance(found, socket.gaierror):
            names.add("gaierror")
    return names


def _code(error: BaseException) -> str:
    for found in _chain(error):
        response: Any = getattr(found, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
    return ""


def _is_denied(error: BaseException) -> bool:
    return any(isinstance(found, PermissionError) for found in _chain(error))
