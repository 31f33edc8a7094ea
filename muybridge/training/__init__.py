"""One trainer for all systems."""

from muybridge.waiting import wait_passively

wait_passively()  # torch reads it when it is loaded, which the modules here do
