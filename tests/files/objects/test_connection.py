"""How a bucket is reached: what is missing is said in one sentence, and no secret is."""

import sys
from pathlib import Path
from typing import Any

import pytest

import featcache
from featcache.errors import MachineError, UsageError
from featcache.files.objects import bucket, connection
from featcache.files.objects.object_path import ObjectPath
from featcache.files.objects.working_files import require_working_folder
from tests.builders import new_store, record_clusters

SECRETS = ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI")


def test_a_missing_library_is_said_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 2, and the command to paste; a local cache never asks for it."""
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.setattr(bucket, "_BUCKETS", {})
    with pytest.raises(UsageError, match=r"needs obstore: pip install 'featcache\[objects\]'"):
        featcache.verify(cache="s3://bucket/features")


def test_a_profile_needs_boto3(monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile that is named, and cannot be read, is not passed over in silence."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.setenv("AWS_PROFILE", "research")
    monkeypatch.setattr(connection, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"AWS_PROFILE is research: .*pip install boto3"):
        connection.connect("s3", "bucket")


def test_a_profile_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 2, with its name: a typo in it is no fault of featcache."""
    pytest.importorskip("boto3")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.setenv("AWS_PROFILE", "reserch")
    with pytest.raises(UsageError, match=r"AWS_PROFILE is reserch: boto3 cannot read this profile: ProfileNotFound"):
        connection.connect("s3", "bucket")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("error sending request: operation timed out", "it did not answer in time"),
        (
            "Generic MicrosoftAzure error: Account must be specified",
            "its account is not named: set AZURE_STORAGE_ACCOUNT_NAME",
        ),
        ("connection reset by peer", "the connection was torn"),
        ("invalid peer certificate", "its certificate is not trusted"),
        ("PUT http://169.254.169.254/latest/api/token: operation timed out", "there are no credentials for it"),
        ("Server returned non-2xx status code: 500 Internal", "its answer is an error (500)"),
    ],
)
def test_the_cause_is_not_that_of_the_setting(words: str, said: str) -> None:
    """The library adds its own settings, `retry_timeout` among them: they are no cause."""
    text = f"{words}\n\nDebug source:\nRetryErrorImpl {{ max_retries: 10, retry_timeout: 60s, inner: Http({words}) }}"
    assert connection.describe_refusal(ValueError(text)) == said


@pytest.mark.parametrize("address", ["", "localhost:9000", "http://key:secret@host", "http://a b"])
def test_an_address_that_is_no_url_is_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Exit 2, by the name of the variable; what it is set to is not repeated, since it may hold a secret."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    with pytest.raises(UsageError, match="AWS_ENDPOINT_URL is set, and is no URL such as") as refused:
        connection.connect("s3", "bucket")
    assert "secret" not in str(refused.value)


def test_what_a_server_replies_is_not_repeated() -> None:
    """Of a reply that quotes the id of a key, and what was signed with it, only the code and its meaning are said."""
    body = f"<Error><Code>SignatureDoesNotMatch</Code><AWSAccessKeyId>{SECRETS[0]}</AWSAccessKeyId>{SECRETS[1]}</Error>"
    unknown = f"Generic S3 error: status: 418 <Code>Teapot</Code> {' '.join(SECRETS)}"
    for text in (body, unknown, f"error sending request: connection refused {SECRETS[0]}", SECRETS[1]):
        said = connection.describe_refusal(ValueError(text))
        assert not any(secret in said for secret in SECRETS)
        with pytest.raises(MachineError) as refused, connection.translate_refusals("s3://bucket/key"):
            raise ValueError(text)
        assert not any(secret in str(refused.value) for secret in SECRETS)
        assert refused.value.__suppress_context__


METADATA = "Error performing PUT http://169.254.169.254/latest/api/token in 3s - request timed out"


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("s3://feat/x/stores/a/.probe-0123abcd", "s3://feat: no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_"),
        ("gs://feat/x", "gs://feat: no credentials: set GOOGLE_APPLICATION_CREDENTIALS"),
        ("az://feat/x", "az://feat: no credentials: set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY"),
    ],
)
def test_missing_credentials_are_said_with_what_to_set(place: str, said: str) -> None:
    """Of the bucket, whatever was asked for: the library asks a machine of the cloud for a role, which times out."""
    with pytest.raises(MachineError) as refused, connection.translate_refusals(place):
        raise ValueError(METADATA)
    assert str(refused.value).startswith(said)


def test_the_key_of_a_probe_is_not_shown() -> None:
    """It is an object of a moment: the folder is named, or where the bucket is missing, the bucket alone."""
    for text, said in (("<Code>NoSuchBucket</Code>", "s3://feat: "), ("status: 403", "s3://feat/x/stores/a: ")):
        with pytest.raises(MachineError) as refused, connection.translate_refusals("s3://feat/x/stores/a/.probe-01ef"):
            raise ValueError(text)
        assert str(refused.value).startswith(f"{said}the object store refuses: ")


def test_a_server_that_asks_for_credentials_is_not_asked_without_any(
    bucket_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the environment has no keys and the machine no role, a copy says what to set, at once."""
    record_clusters(tmp_path / "cache", "train")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))  # where no profile is
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(bucket, "_BUCKETS", {})
    with pytest.raises(MachineError, match=r"^s3://[^/]+: no credentials: set AWS_ACCESS_KEY_ID"):
        featcache.copy_cache(tmp_path / "cache", bucket_url)


@pytest.mark.parametrize("command", ["search", "finetune"])
def test_a_command_that_goes_on_in_a_file_refuses_a_bucket(command: str) -> None:
    """Without a folder of this machine: exit 2, why, and the flag that names one."""
    with pytest.raises(UsageError, match=rf"`featcache {command}` keeps .* as a file.*--local-cache FOLDER"):
        require_working_folder(ObjectPath("s3://b/c"), command, "its study")


def test_a_search_keeps_its_study_here_and_its_head_in_the_bucket(memory: ObjectPath, tmp_path: Path) -> None:
    """Refused without --local-cache, before anything is trained; with it the same command goes on with the study."""
    record_clusters(memory, "train", "val")
    options: dict[str, Any] = {"data": "/data/toy", "cache": str(memory), "check_seconds": None, "epochs": 3}
    with pytest.raises(UsageError, match="keeps its study as a file"):
        featcache.search(1, **options)
    first = featcache.search(2, **options, local_cache=tmp_path)
    assert first.study.is_relative_to(tmp_path / "work")
    assert first.study.is_file()
    again = featcache.search(3, **options, local_cache=tmp_path)
    assert (again.trials, again.new) == (3, 1)
    assert len(list(memory.glob("stores/*/heads/toy/all/*/head.json"))) in (1, 2)
    assert not list(tmp_path.rglob("head.json"))


def test_an_empty_cache_in_memory_is_empty(memory: ObjectPath) -> None:
    """A store that was just made has no rows, and its log is there before its trunk.json."""
    store = new_store(memory)
    assert (store.rows, sorted(path.name for path in store.root.iterdir())) == (0, ["commits.jsonl", "trunk.json"])
