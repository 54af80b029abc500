"""How a bucket is reached: with the library for object stores, settings of the environment, and no credentials of ours.

Credentials come from where the tools of each cloud look for them: the environment, the machine's role, or a profile.
They are never a part of a URL, of a recipe, or of anything that featcache writes; and what an object store replies is
not repeated as it is, because a refusal of S3 quotes the key's id and what was signed with it.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from featcache.errors import MachineError, UsageError

RETRY_SECONDS = 60.0  # for which a store that is overloaded, or a connection that is torn, is tried again
REQUEST_SECONDS = 600.0  # that one request may take, with all that it carries
CONNECT_SECONDS = 10.0
GUIDE = "docs/guides/object-storage.md"
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_ODD_KEY = re.compile("^(Encountered object with invalid path|Could not parse path)")
_NO_CREDENTIALS = "there are no credentials for it"
_CODE = re.compile(r"<Code>([A-Za-z]{1,40})</Code>|\b(?:error|status)[^0-9\n]{0,20}\b([45][0-9]{2})\b")
_TO_SET = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
_CAUSES = (  # words of the library, and ours; without credentials it asks the service that a machine of a cloud has
    (re.compile(r"credential|169\.254\.(169\.254|170\.2)\b|metadata\.google|://[^/\s]+/latest/(api/token|meta-data)\b",
                re.IGNORECASE), _NO_CREDENTIALS),
    (re.compile("Account must be specified"), "its account is not named: set AZURE_STORAGE_ACCOUNT_NAME"),
    (re.compile("connection refused", re.IGNORECASE), "nobody listens at its address"),
    (re.compile("dns error|failed to lookup|name resolution", re.IGNORECASE), "its host name is not known"),
    (re.compile("timed? ?out", re.IGNORECASE), "it did not answer in time"),
    (re.compile("certificate", re.IGNORECASE), "its certificate is not trusted"),
    (re.compile("connection (reset|closed|aborted)|incomplete|broken pipe|error decoding", re.IGNORECASE),
     "the connection was torn"),
)  # fmt: skip
_SCRATCH = re.compile(r"/\.(probe|clock)-[0-9a-f]+$")  # the key of an object that is written for a moment
_KNOWN = {
    "NoSuchBucket": "there is no such bucket",
    "AccessDenied": "these credentials may not do this (AccessDenied)",
    "InvalidAccessKeyId": "it does not know these credentials (InvalidAccessKeyId)",
    "SignatureDoesNotMatch": "the secret key is not that of the key's id (SignatureDoesNotMatch)",
    "ExpiredToken": "the credentials have expired (ExpiredToken)",
    "SlowDown": "it asks to slow down, for longer than we retry (SlowDown)",
}


def connect(scheme: str, bucket: str) -> Any:
    """Return obstore's client of one bucket.

    Args:
        scheme: `s3`, `gs`, `az` or `memory`.
        bucket: Its name; of Azure, that of the container.

    Raises:
        UsageError: obstore is not installed; a profile is named whose credentials need boto3; or the address of the
            server is no URL.
        MachineError: a setting of the environment that the library refuses.
    """
    try:
        from obstore import exceptions, store
    except ImportError:
        raise UsageError(
            f"{scheme}://{bucket}: a cache in an object store needs obstore: pip install 'featcache[objects]'"
        ) from None
    if scheme == "memory":
        return store.MemoryStore()
    _check_endpoint()
    settings: dict[str, Any] = {
        "client_options": {
            "timeout": timedelta(seconds=REQUEST_SECONDS), "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
            "allow_http": any(os.environ.get(name, "").startswith("http://") for name in _ENDPOINTS),
        },
        "retry_config": {"max_retries": 10, "retry_timeout": timedelta(seconds=RETRY_SECONDS)},
    }  # fmt: skip
    try:
        if scheme == "gs":
            return store.GCSStore(bucket, **settings)
        if scheme == "az":
            return store.AzureStore(bucket, **settings)
        return store.S3Store(bucket, **settings, **_profile_credentials())
    except (exceptions.BaseError, ValueError) as error:
        raise MachineError(f"{scheme}://{bucket}: cannot be reached: {describe_refusal(error)}; see {GUIDE}") from None


def _check_endpoint() -> None:
    """Refuse the address of a server that is no URL: the library would end the process over it.

    Raises:
        UsageError: a variable is set to something else; what, is not repeated.
    """
    for name in _ENDPOINTS:
        if not re.fullmatch(r"https?://[^\s/@]+(/\S*)?", os.environ.get(name, "http://none")):
            raise UsageError(
                f"{name} is set, and is no URL such as https://minio.example.org:9000; correct it, or unset it"
            )


def _profile_credentials() -> dict[str, Any]:
    """Return a provider of the credentials of a profile, where one is meant: obstore itself reads no profiles."""
    if os.environ.get("AWS_ACCESS_KEY_ID") or os.environ.get("AWS_SKIP_SIGNATURE"):
        return {}
    named = os.environ.get("AWS_PROFILE", "")
    files = [Path("~/.aws/credentials").expanduser(), Path("~/.aws/config").expanduser()]
    if not named and not any(file.exists() for file in files):
        return {}
    if find_spec("boto3") is None:
        if named:
            raise UsageError(f"AWS_PROFILE is {named}: the credentials of a profile need boto3: pip install boto3")
        return {}
    from botocore.exceptions import BotoCoreError
    from obstore.auth.boto3 import Boto3CredentialProvider

    try:
        return {"credential_provider": Boto3CredentialProvider()}
    except BotoCoreError as error:
        where = f"AWS_PROFILE is {named}" if named else "~/.aws"
        raise UsageError(f"{where}: boto3 cannot read this profile: {type(error).__name__}; correct it") from None
    except ValueError:  # this profile has none: whatever obstore itself finds is taken
        if named:
            raise UsageError(f"AWS_PROFILE is {named}: there are no credentials in this profile") from None
        return {}


@contextlib.contextmanager
def translate_refusals(where: str, *, is_listing: bool = False) -> Iterator[None]:
    """Turn what an object store refuses in the block into an error that says the way out, and quotes no secret.

    Args:
        where: The URL of the object, for the message.
        is_listing: Whether the names below it are listed: then nothing can be missing but the bucket.

    Raises:
        FileNotFoundError: there is no such object.
        FileExistsError: the condition of a put does not hold: the name is taken, or the object is another by now.
        StoreRefusalError: anything else: no such bucket, wrong credentials, no answer.
    """
    from obstore import exceptions

    try:
        yield
    except FileNotFoundError as error:
        if "NoSuchBucket" not in str(error) and not is_listing:
            raise FileNotFoundError(2, "No such file or directory", where) from None
        refusal, is_passing = _KNOWN["NoSuchBucket"], False
    except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
        raise FileExistsError(17, "it was written by another process", where) from None
    except (exceptions.BaseError, OSError, ValueError) as error:
        final = exceptions.PermissionDeniedError, exceptions.UnauthenticatedError, exceptions.InvalidPathError
        refusal = describe_refusal(error)
        is_passing = not isinstance(error, final) and refusal != _NO_CREDENTIALS
    else:
        return
    raise StoreRefusalError(
        f"{_sentence(where, refusal)}; what was committed before is safe: fix the cause and run the same command again "
        f"({GUIDE})",
        reason=f"the object store refuses: {refusal}",
        is_passing=is_passing,
    ) from None  # a traceback would quote the reply


def _sentence(where: str, refusal: str) -> str:
    """Return what was refused of which place: of the bucket where no object in it is at fault."""
    bucket = "/".join(where.split("/")[:3])
    to_set = _TO_SET.get(where.partition(":")[0])
    if refusal == _NO_CREDENTIALS and to_set is not None:
        return f"{bucket}: no credentials: {to_set}"
    place = bucket if refusal in (_NO_CREDENTIALS, _KNOWN["NoSuchBucket"]) else _SCRATCH.sub("", where)
    return f"{place}: the object store refuses: {refusal}"


class StoreRefusalError(MachineError):
    """What an object store refuses, or that it does not answer."""

    def __init__(self, message: str, *, reason: str = "", is_passing: bool = False) -> None:
        """Say what was refused.

        Args:
            message: As for any error.
            reason: The same without the place and the way out: of one image among others.
            is_passing: Whether the same request may well succeed a moment later.
        """
        super().__init__(message)
        self.reason, self.is_passing = reason or message, is_passing


def describe_refusal(error: BaseException) -> str:
    """Return what an object store refuses, in words of ours.

    Args:
        error: As obstore raises it; its text may quote the id of a key, and is not repeated.
    """
    text = str(error).replace("retry_timeout", "")  # a setting, which is no cause
    if _ODD_KEY.search(text):
        match = re.search(r'[Pp]ath "([^"]{1,1024})"', text)
        key = f"the key {match[1]!r}" if match else "a key"
        return f"{key} has a part that is empty, '.' or '..', or a control character: rename this object"
    codes = [part for match in _CODE.findall(text) for part in match if part]
    for code in codes:
        if code in _KNOWN:
            return _KNOWN[code]
    for words, cause in _CAUSES:
        if words.search(text):
            return cause
    kind = type(error).__name__.removesuffix("Error")
    named = {"PermissionDenied": "these credentials may not do this", "Unauthenticated": "it wants credentials"}
    words_of_kind = named.get(kind, "its answer is an error")
    return f"{words_of_kind} ({codes[0]})" if codes else words_of_kind
