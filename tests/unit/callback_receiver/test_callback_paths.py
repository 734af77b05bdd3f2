import pytest

from callback_receiver.paths import CallbackPath, parse_callback_path

TOKEN = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("path", "reference"),
    [
        (f"/i/{TOKEN}", None),
        (f"/i/{TOKEN}/", None),
        (f"/i/{TOKEN}/018f2b", "018f2b"),
        (f"/i/{TOKEN}/018f2b/", "018f2b"),
        (f"/i/{TOKEN}/" + "a" * 64, "a" * 64),
    ],
)
def test_a_callback_path_gives_its_token_and_reference(path, reference):
    assert parse_callback_path(path) == CallbackPath(TOKEN, reference)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/i",
        "/i/",
        f"/i/{TOKEN[:-1]}",
        f"/i/{TOKEN}0",
        f"/i/{TOKEN.upper()}",
        f"/i/{TOKEN}.",
        f"/i/{TOKEN} ",
        f"/i/{TOKEN}\n",
        f"/i/{TOKEN}//",
        f"/i/{TOKEN}/a/b",
        f"/i/{TOKEN}/..",
        f"/i/../i/{TOKEN}",
        f"//i/{TOKEN}",
        f"/i/{TOKEN}/" + "a" * 65,
        f"/i/{TOKEN}/\0",
        f"/i/{TOKEN}/é",
        "/i/" + "٣" * 40,
        "/i/" + "a" * 100_000,
    ],
)
def test_anything_else_is_no_callback_path(path):
    assert parse_callback_path(path) is None


def test_a_path_does_not_show_its_token():
    assert TOKEN not in repr(parse_callback_path(f"/i/{TOKEN}/7"))
