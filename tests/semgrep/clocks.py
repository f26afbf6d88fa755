import random
import time
from datetime import datetime, timezone


def waited(clock, wall=time.time, jitter=random.random):
    # ruleid: time-that-is-not-injected
    begun = time.monotonic()
    # ruleid: time-that-is-not-injected
    time.sleep(1)
    # ruleid: time-that-is-not-injected
    now = datetime.now(timezone.utc)
    # ruleid: chance-that-is-not-injected
    pause = random.uniform(0, 1)
    # ok: time-that-is-not-injected
    left = wall() - clock.monotonic()
    # ok: chance-that-is-not-injected
    pause += jitter()
    return begun, now, pause, left
