"""The embedded AWS against a web page that knows its port, and its Lambda workers after promotions."""

import base64
import contextlib
import io
import time
import zipfile
from datetime import UTC, datetime

import boto3
import httpx
import psutil
import pytest
from botocore.config import Config

from riskwatch_expectations import data_docs
from riskwatch_infra import deploy
from riskwatch_local.lambda_host import function as lambda_function
from riskwatch_local.services import embedded_aws, embedded_aws_server
from riskwatch_ml.storage import keys
from riskwatch_ml.storage.bucket import Store

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

EVIL = "https://evil.example"
PAGE = {"Origin": EVIL, "Host": "evil.example:1"}


def zipped(code):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("index.py", code)
    return buffer.getvalue()


@pytest.mark.parametrize("headers", [PAGE, {"Origin": EVIL}, {"Host": "evil.example:1"}, {}])
def test_a_web_page_can_neither_change_nor_invoke_the_function(aws, stack, tmp_path, headers):
    # GIVEN code that leaves a file on this machine
    written = tmp_path / "written"
    code = zipped(f"def handle(event, context):\n    open({str(written)!r}, 'w').close()\n")
    functions = f"{aws.endpoint}/2015-03-31/functions/{stack.function}"
    before = aws.client("lambda").get_function_configuration(FunctionName=stack.function)["CodeSha256"]
    # WHEN a page asks for the buckets, allows itself a PUT, replaces the code and invokes it
    answers = [
        httpx.get(aws.endpoint, headers=headers),
        httpx.options(f"{functions}/code", headers={**headers, "Access-Control-Request-Method": "PUT"}),
        httpx.put(f"{functions}/code", headers=headers, json={"ZipFile": base64.b64encode(code).decode()}),
        httpx.post(f"{functions}/invocations", headers=headers, content="{}"),
        httpx.post(f"{aws.endpoint}/_ministack/reset", headers=headers),
    ]
    # THEN all are refused without leave to read the answer, and nothing has changed
    assert [answer.status_code for answer in answers] == [403] * 5
    assert not any(name.startswith("access-control") for answer in answers for name in answer.headers)
    after = aws.client("lambda").get_function_configuration(FunctionName=stack.function)["CodeSha256"]
    assert (after, written.exists()) == (before, False)


def test_each_server_has_a_key_of_its_own(aws, tmp_path, supervisor):
    other = embedded_aws.EmbeddedAws.start(supervisor, tmp_path)
    with pytest.raises(boto3.client("s3").exceptions.ClientError, match=r"403|Forbidden|AccessDenied"):
        boto3.client("s3", endpoint_url=other.endpoint).list_buckets()
    assert other.client("s3").list_buckets()["Buckets"] == []
    other.stop()


def test_signed_uploads_presigned_urls_and_downloads_of_code_pass(aws, stack):
    # GIVEN an object of several parts, which is sent in signed chunks
    s3 = aws.client("s3")
    s3.upload_fileobj(io.BytesIO(b"x" * 9_000_000), stack.bucket, "large")
    # WHEN it is read through a presigned URL of either signature version THEN it is complete
    for version in ("s3", "s3v4"):
        signer = aws.client("s3", config=Config(signature_version=version))
        url = signer.generate_presigned_url("get_object", Params={"Bucket": stack.bucket, "Key": "large"})
        assert len(httpx.get(url).content) == 9_000_000
    # AND the code of a function can be downloaded from the URL that Lambda gives
    assert lambda_function.fetch(aws.client("lambda"), stack.function, "live").code
    deploy.deploy(aws.client("cloudformation"), aws.client("lambda"), poll_s=0.05)


def test_a_person_opens_data_docs_by_their_link(aws, stack):
    # GIVEN a document and its link
    store = Store(aws.client("s3"), stack.bucket)
    key = keys.data_docs(datetime(2026, 11, 22, 10, tzinfo=UTC), datetime(2026, 11, 22, 11, tzinfo=UTC), "default")
    store.put_html(key, "<html></html>")
    # WHEN a browser opens it THEN it gets the document, and no page may read it
    answer = httpx.get(data_docs.link(store, key), headers={"Sec-Fetch-Mode": "navigate"})
    assert (answer.status_code, answer.text) == (200, "<html></html>")
    refused = httpx.get(data_docs.link(store, key), headers={"Origin": EVIL})
    assert refused.status_code == 403


def publish(client, function, number):
    """Publish a version that calls S3 as a client of the embedded AWS, move the alias to it and invoke it."""
    code = f"import boto3\ndef handle(event, context):\n    boto3.client('s3').list_buckets()\n    return {number}\n"
    client.update_function_code(FunctionName=function, ZipFile=zipped(code))
    client.get_waiter("function_updated_v2").wait(FunctionName=function)
    version = client.publish_version(FunctionName=function)["Version"]
    try:
        client.update_alias(FunctionName=function, Name="moves", FunctionVersion=version)
    except client.exceptions.ResourceNotFoundException:
        client.create_alias(FunctionName=function, Name="moves", FunctionVersion=version)
    answer = client.invoke(FunctionName=f"{function}:moves", Payload=b"{}")
    assert ("FunctionError" in answer, answer["Payload"].read()) == (False, str(number).encode())


def workers(aws):
    """Give the Lambda workers that run; one that has just ended has no command line any more."""
    found = []
    for process in psutil.Process(aws.child.pid).children():
        with contextlib.suppress(psutil.Error):
            if "_worker.py" in str(process.cmdline()):
                found.append(process)
    return found


def test_workers_of_versions_without_an_alias_end(aws):
    # GIVEN a function of which the alias moved three times, each version with a worker
    client = aws.client("lambda")
    client.create_function(
        FunctionName="moving",
        Runtime="python3.11",
        Role="arn:aws:iam::000000000000:role/any",
        Handler="index.handle",
        Code={"ZipFile": zipped("")},
        Timeout=20,
    )
    client.get_waiter("function_active_v2").wait(FunctionName="moving")
    before = {process.pid for process in workers(aws)}
    seen = set()
    for number in range(3):
        publish(client, "moving", number)
        seen |= {process.pid for process in workers(aws)} - before
    assert len(seen) == 3
    # WHEN they have been idle for a while THEN only that of the newest version is left, and it serves
    deadline = time.monotonic() + 3 * (embedded_aws_server.IDLE_S + embedded_aws_server.REAP_EVERY_S)
    while len({process.pid for process in workers(aws)} & seen) > 1 and time.monotonic() < deadline:
        time.sleep(0.2)
    left = {process.pid for process in workers(aws)} & seen
    assert len(left) == 1
    client.invoke(FunctionName="moving:moves", Payload=b"{}")
    assert {process.pid for process in workers(aws)} & seen == left
