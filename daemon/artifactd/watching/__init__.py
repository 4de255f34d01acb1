"""The watching room: what the disk says, and where it is worth a look soon.

The disk is the truth and events are hints. ``scan`` lists folders, ``inside`` opens what is in them without ever
leaving the watched root, ``signature`` tells one state of a file from the next, ``hints`` collects where to look,
``events`` fills it from inotify, and ``mounts`` knows where inotify and leases cannot be trusted.

Paths are bytes relative to the watched root (``b""`` is the root itself), names are bytes.
"""
