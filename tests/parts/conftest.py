"""The tiny models of the device tests serve the tests of parts, too."""

from tests.devices.conftest import device, tiny_models  # noqa: F401
