from pathlib import Path

import pytest

from sandbox import cache


def test_the_cache_is_the_user_s_not_the_clone_s(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / "vllm-oncall"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.cache_folder() == Path.home() / ".cache" / "vllm-oncall"


def test_what_pip_refuses_is_told_in_its_own_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(RuntimeError, match="could not install not a requirement"):
        cache.from_pypi("nothing", "not a requirement")
    with pytest.raises(RuntimeError):  # and is not taken for done the second time
        cache.from_pypi("nothing", "not a requirement")
