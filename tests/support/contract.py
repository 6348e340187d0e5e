"""Fakes of boto3 clients, held to the model of the service: botocore would refuse what does not fit it."""

from functools import lru_cache, wraps

import botocore.session
from botocore import xform_name
from botocore.validate import ParamValidator

# An answer may leave out what the service always gives: code that needs it fails in the test. The smallest values are
# those of requests: the model has 1 for FailedRecordCount, which is 0 as a rule.
FORGIVEN = ("missing required field", "invalid range")


@lru_cache
def operations(service):
    """Return the operations of a service by the names of the client's methods."""
    model = botocore.session.get_session().get_service_model(service)
    return {xform_name(name): model.operation_model(name) for name in model.operation_names}


def imitates(*services, pages=None):
    """Decorate a fake client: every call and every answer has the names and types of the service's own.

    `pages` is the operation that the method `paginate` stands for. An answer of None stands for one that nobody reads.
    """

    def decorated(fake):
        for name, method in list(vars(fake).items()):
            wanted = pages if name == "paginate" else name
            if callable(method) and any(wanted in operations(service) for service in services):
                wrap = _paged if name == "paginate" else _called
                setattr(fake, name, wrap(method, next(o[wanted] for o in map(operations, services) if wanted in o)))
        return fake

    return decorated


def check(value, shape, name, *, forgiven=()):
    """Assert that a value is of a shape, but for the kinds of errors that are forgiven."""
    report = ParamValidator().validate(value, shape)
    report._errors = [error for error in report._errors if error[0] not in forgiven]
    assert not report.has_errors(), f"{name}: {report.generate_report()}"


def _called(method, operation):
    @wraps(method)
    def call(self, **asked):
        check(asked, operation.input_shape, f"call of {operation.name}")
        answer = method(self, **asked)
        if answer is not None:
            check(answer, operation.output_shape, f"answer of {operation.name}", forgiven=FORGIVEN)
        return answer

    return call


def _paged(method, operation):
    @wraps(method)
    def paginate(self, **asked):
        check(asked, operation.input_shape, f"call of {operation.name}")
        for page in method(self, **asked):
            check(page, operation.output_shape, f"page of {operation.name}", forgiven=FORGIVEN)
            yield page

    return paginate
