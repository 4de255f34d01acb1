"""How many files watchdog's observer tells of, as it is: ``python events_alone.py FOLDER``.

Says when it watches, and the number two seconds after the last event once its standard input ends.
"""

from __future__ import annotations

import sys
import time

from watchdog.events import FileClosedEvent, FileCreatedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer


class _Counting(FileSystemEventHandler):
    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.last = time.monotonic()

    def on_any_event(self, event: FileSystemEvent) -> None:
        self.last = time.monotonic()
        if isinstance(event, FileCreatedEvent | FileClosedEvent):
            self.seen.add(str(event.src_path))


def main() -> None:
    """Watch, count, say."""
    counting = _Counting()
    observer = Observer()
    observer.schedule(counting, sys.argv[1], recursive=True, event_filter=[FileCreatedEvent, FileClosedEvent])
    observer.start()
    print("ready", flush=True)
    sys.stdin.read()
    while time.monotonic() - counting.last < 2:
        time.sleep(0.1)
    print(len(counting.seen))
    observer.stop()


if __name__ == "__main__":
    main()
