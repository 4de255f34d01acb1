"""Line numbers of TOML keys."""

from __future__ import annotations

from artifactd.config.lines import key_lines

TEXT = '''\
state_dir = "/s"  # first
retry.initial = "1s"

[mlflow]
tracking_uri = "x = y"

[[watch]]
path = "/a"
include = [
  "a = b",
  "c",
]
[[watch.route]]
match = "*.png"
[[watch.route]]
match = """
kind = "no key"
"""
kind = "artifact"

[[ watch ]]
"path" = "/b"
  [[watch.route]]
  match = 'x'
[log]
'''


def test_keys_and_tables_have_their_lines() -> None:
    assert key_lines(TEXT) == {
        ("state_dir",): 1,
        ("retry",): 2,
        ("retry", "initial"): 2,
        ("mlflow",): 4,
        ("mlflow", "tracking_uri"): 5,
        ("watch", 0): 7,
        ("watch", 0, "path"): 8,
        ("watch", 0, "include"): 9,
        ("watch", 0, "route", 0): 13,
        ("watch", 0, "route", 0, "match"): 14,
        ("watch", 0, "route", 1): 15,
        ("watch", 0, "route", 1, "match"): 16,
        ("watch", 0, "route", 1, "kind"): 19,
        ("watch", 1): 21,
        ("watch", 1, "path"): 22,
        ("watch", 1, "route", 0): 23,
        ("watch", 1, "route", 0, "match"): 24,
        ("log",): 25,
    }
