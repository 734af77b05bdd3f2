import pytest

from local_stack.home import Home, check, demo_home, home_of, prepare, remove, sockets_folder
from vault_core.errors import ConfigurationError


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(tmp_path / ".vault")


def test_preparing_makes_the_folders_for_us_alone_and_repeats_harmlessly(home) -> None:
    prepare(home)
    prepare(home)
    assert home.path.stat().st_mode & 0o077 == 0
    assert all(folder.is_dir() for folder in home.inner_folders())


def test_a_file_in_its_place_is_refused(home) -> None:
    home.path.write_text("")
    with pytest.raises(ConfigurationError, match="is a file"):
        prepare(home)


def test_a_folder_of_somebody_else_is_refused_and_untouched(home) -> None:
    home.path.mkdir()
    (home.path / "thesis.odt").write_text("")
    with pytest.raises(ConfigurationError, match="was not made by"):
        prepare(home)
    with pytest.raises(ConfigurationError, match="was not made by"):
        remove(home)
    assert (home.path / "thesis.odt").exists()


def test_an_empty_folder_may_become_a_home(home) -> None:
    home.path.mkdir()
    prepare(home)
    assert home.marker.exists()


def test_a_newer_layout_is_refused(home) -> None:
    prepare(home)
    home.marker.write_text("layout = 2\n")
    with pytest.raises(ConfigurationError, match="layout 2"):
        check(home)


def test_a_damaged_marker_is_named(home) -> None:
    prepare(home)
    home.marker.write_bytes(b"\xff\xfe=")
    with pytest.raises(ConfigurationError, match="is damaged"):
        check(home)


def test_a_folder_that_became_a_file_is_named(home) -> None:
    prepare(home)
    home.logs.rmdir()
    home.logs.write_text("")
    with pytest.raises(ConfigurationError, match=r"logs should be a folder"):
        prepare(home)


def test_sockets_lie_at_a_short_path_however_deep_the_home_is(tmp_path) -> None:
    home = Home(tmp_path / ("d" * 100) / ("e" * 100))
    prepare(home)
    sockets = sockets_folder(home)
    assert len(str(sockets / "postgres" / ".s.PGSQL.5432.lock")) < 104
    assert sockets_folder(home) == sockets
    remove(home)
    assert not sockets.exists()


def test_sockets_are_made_anew_when_the_system_has_cleaned_them_away(home) -> None:
    prepare(home)
    first = sockets_folder(home)
    (first / "home").unlink()
    first.rmdir()
    second = sockets_folder(home)
    assert second != first
    assert second.is_dir()
    remove(home)


def test_a_copied_home_does_not_share_ports_and_sockets_with_the_first(home, tmp_path) -> None:
    prepare(home)
    home.ports_file.write_text("receiver = 20000\n")
    sockets = sockets_folder(home)
    copy = Home(tmp_path / "copy")
    home.path.rename(copy.path)  # what a copy looks like to itself
    prepare(copy)
    assert not copy.ports_file.exists()
    assert sockets_folder(copy) != sockets
    remove(copy)
    assert sockets.exists()
    (sockets / "home").unlink()
    sockets.rmdir()


def test_removing_follows_no_symbolic_link(home, tmp_path) -> None:
    real = Home(tmp_path / "real")
    prepare(real)
    home.path.symlink_to(real.path)
    with pytest.raises(ConfigurationError, match="symbolic link"):
        remove(home)
    assert real.marker.exists()


def test_removing_leaves_a_sockets_folder_that_is_not_ours(home, tmp_path) -> None:
    prepare(home)
    foreign = tmp_path / "pv-foreign"
    foreign.mkdir()
    (foreign / "home").write_text("/somewhere/else")
    home.sockets_note.write_text(str(foreign))
    remove(home)
    assert foreign.exists()
    assert not home.path.exists()


def test_a_demo_before_anything_else_leaves_a_whole_home_around_it(home) -> None:
    demo = demo_home(home)
    prepare(demo)
    check(home)
    prepare(home)
    assert demo.jars == home.jars
    assert home_of({"VAULT_HOME": str(demo.path)}) == demo


def test_removing_a_home_removes_the_sockets_of_its_demo(home) -> None:
    demo = demo_home(home)
    prepare(demo)
    sockets = sockets_folder(demo)
    remove(home)
    assert not sockets.exists()
    assert not home.path.exists()
