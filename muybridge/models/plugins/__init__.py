"""The temporal plug-ins, one file each."""
