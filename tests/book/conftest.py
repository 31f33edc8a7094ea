"""The folder that pages are run in."""

from functools import cache
from importlib import import_module

import pytest

from muybridge.models.text import encoder
from tests.book.readers_folder import fresh, furnish, small_zoo

#: Modules that look into the folder of bundled models.
LOOKING = ("muybridge.library.catalogue", "muybridge.making.upscaling", "muybridge.making.used")
#: Modules that open text encoders: one process opens the same one once, not at each command.
READING = ("muybridge.pipelines.words", "muybridge.data.embeddings")
open_once, tokenizer_once = cache(encoder.open_text_encoder), cache(encoder.load_tokenizer)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reader")
    small_zoo(folder / "zoo")
    (folder / "here").mkdir()
    furnish(folder / "here", folder / "home")
    return folder


@pytest.fixture
def reader(prepared, tmp_path, monkeypatch):
    """A folder with the reader's own files, and models that sample in two steps."""
    for name in LOOKING:
        monkeypatch.setattr(import_module(name), "ZOO", prepared / "zoo")
    for name in READING:
        monkeypatch.setattr(import_module(name), "open_text_encoder", open_once)
    monkeypatch.setattr(encoder, "load_tokenizer", tokenizer_once)
    here = fresh(prepared / "here", tmp_path / "here")
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(prepared / "home"))
    monkeypatch.setenv("MUYBRIDGE_CACHE", str(tmp_path / "cache"))
    return here
