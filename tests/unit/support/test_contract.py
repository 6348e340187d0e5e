"""The contract of the fakes: what botocore would refuse, and what no service answers, fails the test."""

import pytest

from tests.support.contract import imitates


@imitates("kinesis", pages="list_streams")
class Fake:
    """Answers what the test gives."""

    def __init__(self, answer):
        self.answer = answer

    def put_records(self, **asked):
        return self.answer

    def paginate(self, **asked):
        yield self.answer


RECORDS = [{"Data": b"a", "PartitionKey": "shop"}]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"StreamName": "s"}, 'Missing required parameter in input: "Records"'),
        ({"StreamName": "s", "Records": RECORDS, "Stream": "s"}, 'Unknown parameter in input: "Stream"'),
        ({"StreamName": "s", "Records": [{**RECORDS[0], "PartitionKey": 1}]}, "Invalid type .*PartitionKey"),
    ],
)
def test_a_call_that_botocore_refuses_fails(asked, words):
    with pytest.raises(AssertionError, match=words):
        Fake({"Records": []}).put_records(**asked)


def test_an_answer_that_the_service_cannot_give_fails():
    # GIVEN / WHEN / THEN an unknown name, a wrong type, and an unknown name on a page
    for answer in ({"Record": []}, {"Records": [{"SequenceNumber": 1}]}):
        with pytest.raises(AssertionError, match="answer of PutRecords"):
            Fake(answer).put_records(StreamName="s", Records=RECORDS)
    with pytest.raises(AssertionError, match="page of ListStreams"):
        list(Fake({"Streams": []}).paginate())


def test_a_call_and_an_answer_that_fit_pass():
    answer = {"FailedRecordCount": 0, "Records": [{"SequenceNumber": "1"}]}
    assert Fake(answer).put_records(StreamName="s", Records=RECORDS) == answer
