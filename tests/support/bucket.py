"""An S3 client over a dictionary: what `Store` asks of the service, with its conditions and its errors."""

import hashlib
import io
from datetime import datetime, timedelta
from types import SimpleNamespace

from botocore.exceptions import ClientError
from botocore.response import StreamingBody
from dateutil.tz import tzlocal

from tests.support.contract import imitates


def tag(data):
    """Return the ETag of an object's bytes."""
    return f'"{hashlib.md5(data).hexdigest()}"'


def body(data):
    """Return bytes as boto3 hands them over: to be read once."""
    return StreamingBody(io.BytesIO(data), len(data))


@imitates("s3", pages="list_objects_v2")
class Bucket:
    """Objects by key in `objects`; `puts` lists the keys written, in order.

    A put of the key `dies_at` fails; `overtaken` holds what another writer puts just before each put of ours.
    """

    meta = SimpleNamespace(endpoint_url="http://127.0.0.1:4566", region_name="eu-west-1")

    def __init__(self):
        self.objects = {}
        self.puts = []
        self.dies_at = None
        self.overtaken = []

    def put_object(self, **asked):
        if asked["Key"] == self.dies_at:
            raise ConnectionError("the machine went away")
        if self.overtaken:
            self.objects[asked["Key"]] = self.overtaken.pop(0)
        old = self.objects.get(asked["Key"])
        if asked.get("IfNoneMatch") == "*" and old is not None:
            raise ClientError({"Error": {"Code": "PreconditionFailed"}}, "PutObject")
        if "IfMatch" in asked and (old is None or asked["IfMatch"] != tag(old)):
            raise ClientError({"Error": {"Code": "NoSuchKey" if old is None else "PreconditionFailed"}}, "PutObject")
        self.objects[asked["Key"]] = asked["Body"]
        self.puts.append(asked["Key"])

    def get_object(self, **asked):
        if asked["Key"] not in self.objects:
            raise ClientError({"Error": {"Code": "NoSuchKey"}}, "GetObject")
        data = self.objects[asked["Key"]]
        return {"Body": body(data), "ETag": tag(data)}

    def delete_object(self, **asked):
        self.objects.pop(asked["Key"], None)

    def _place(self, key):
        """Return how many puts there had been when the object was last written; 0 where it was there from the start."""
        return len(self.puts) - self.puts[::-1].index(key) if key in self.puts else 0

    def get_paginator(self, name):
        assert name == "list_objects_v2"
        return self

    def paginate(self, **asked):
        for key in list(self.objects):
            if key.startswith(asked["Prefix"]):
                written = datetime(2026, 1, 1, tzinfo=tzlocal()) + timedelta(seconds=self._place(key))
                yield {"Contents": [{"Key": key, "LastModified": written}]}
        yield {}
