"""An S3 server on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from cvg.common.errors import SettingsError


@contextmanager
def bucket(folder: Path, name: str = "records") -> Iterator[str]:
    """A server with a folder's files in a bucket; what speaks S3 in this process, or one it starts, speaks to it.

    Args:
        folder: whose files, none of those in folders below, are put into it.
        name: of the bucket.

    Yields:
        The URL of the files.

    Raises:
        SettingsError: the packages that serve are not installed.
    """
    try:
        import boto3
        from moto.server import ThreadedMotoServer
        from s3fs import S3FileSystem
    except ImportError as error:
        raise SettingsError(f"bucket: needs a package that is not installed ({error.name}); make setup") from error

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    try:
        with mock.patch.dict("os.environ", settings):
            S3FileSystem.clear_instance_cache()  # what spoke to another server
            client = boto3.client("s3")
            client.create_bucket(Bucket=name)
            for path in sorted(each for each in folder.iterdir() if each.is_file()):
                client.upload_file(str(path), name, f"sets/{path.name}")
            yield f"s3://{name}/sets"
    finally:
        server.stop()
