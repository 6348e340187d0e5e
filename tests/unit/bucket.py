"""An S3 client over a dictionary: what `ml.store.Store` asks of the service, with its conditions and its errors."""

import io
from types import SimpleNamespace

from botocore.exceptions import ClientError


class Bucket:
    """Objects by key in `objects`; `puts` lists the keys written, in order."""

    meta = SimpleNamespace(endpoint_url="http://127.0.0.1:4566", region_name="eu-west-1")

    def __init__(self):
        self.objects = {}
        self.puts = []

    def put_object(self, **asked):
        if asked.get("IfNoneMatch") == "*" and asked["Key"] in self.objects:
            raise ClientError({"Error": {"Code": "PreconditionFailed"}}, "PutObject")
        self.objects[asked["Key"]] = asked["Body"]
        self.puts.append(asked["Key"])

    def get_object(self, **asked):
        if asked["Key"] not in self.objects:
            raise ClientError({"Error": {"Code": "NoSuchKey"}}, "GetObject")
        return {"Body": io.BytesIO(self.objects[asked["Key"]])}

    def delete_object(self, **asked):
        self.objects.pop(asked["Key"], None)

    def get_paginator(self, name):
        assert name == "list_objects_v2"
        return self

    def paginate(self, **asked):
        for key in list(self.objects):
            if key.startswith(asked["Prefix"]):
                yield {"Contents": [{"Key": key}]}
        yield {}
