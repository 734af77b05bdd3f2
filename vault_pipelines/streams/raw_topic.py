"""Topics as bytes: what is in a message is judged at the edge, where a bad one can be buried instead of lost."""

import faust


def raw_topic(app: faust.App, name: str) -> faust.Topic:
    """The topic `name` of `app`, with keys and values as on the wire (Faust would decode JSON, and drop what is none)."""
    return app.topic(name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
