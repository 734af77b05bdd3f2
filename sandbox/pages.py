"""Pages that are no API answer: what stands in front of the real services sometimes speaks HTML."""

from sandbox.asgi import Answer

_BLOCKED = (
    b"<html><head><title>Request unsuccessful</title></head><body>Request unsuccessful. "
    b"Incapsula incident ID: 0-000000000000000000</body></html>"
)

_SOAP_FAULT = (
    b'<?xml version="1.0"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Body>'
    b"<soapenv:Fault><faultcode>soapenv:Server</faultcode><faultstring>Internal Error</faultstring></soapenv:Fault>"
    b"</soapenv:Body></soapenv:Envelope>"
)


def blocked_page() -> Answer:
    """503 with the page of a web application firewall."""
    return Answer(503, _BLOCKED, content_type="text/html")


def soap_fault() -> Answer:
    """500 of a backend whose words nobody translated."""
    return Answer(500, _SOAP_FAULT, content_type="text/xml")


def no_backend_page() -> Answer:
    """503 of a gateway with no server behind it."""
    return Answer(503, b"<html><body><h1>503 Service Temporarily Unavailable</h1></body></html>", content_type="text/html")


def welcome_page() -> Answer:
    """200 with some web server's front page: what a wrong host name meets."""
    return Answer(200, b"<!DOCTYPE html><html><body><h1>Welcome to nginx!</h1></body></html>", content_type="text/html")
