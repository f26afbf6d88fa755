from contextlib import suppress


def tried(work, works):
    # ruleid: fault-that-nobody-hears-of
    try:
        work()
    except Exception:
        pass
    # ruleid: fault-that-nobody-hears-of
    with suppress(Exception):
        work()
    for one in works:
        # ruleid: fault-that-nobody-hears-of
        try:
            one()
        except Exception:
            continue
    # ok: fault-that-nobody-hears-of
    try:
        work()
    except ValueError:
        pass
    # ok: fault-that-nobody-hears-of
    with suppress(OSError):
        work()
    # ok: fault-that-nobody-hears-of
    try:
        work()
    except Exception:
        raise
