"""A Stable Diffusion-shaped folder, and its networks as adapters change them."""

import pytest

from tests import user_folders
from tests.adapter_files import Parts


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return user_folders.stable_diffusion(tmp_path_factory.mktemp("sd15"))


@pytest.fixture
def parts(folder):
    return Parts(folder)
