import logging

log = logging.getLogger(__name__)


def told(task, body, response, request, error):
    # ruleid: log-of-what-was-said
    log.info("asked %s", body)
    # ruleid: log-of-what-was-said
    log.debug("asked %s", body.decode())
    # ruleid: log-of-what-was-said
    log.warning("the backend said %s", response.text)
    # ruleid: log-of-what-was-said
    log.warning("headers %s", request.headers)
    # ruleid: log-of-what-was-said
    log.warning("key %s", request.headers["authorization"])
    # ruleid: log-of-what-was-said
    log.error("it failed", extra={"task": task.id, "row": task.row})
    # ruleid: log-of-what-was-said
    log.exception("it failed %r", response)
    # ok: log-of-what-was-said
    log.info("asked", extra={"task": task.id, "status": response.status})
    # ok: log-of-what-was-said
    log.warning("the backend answered %d to %s of %d bytes", response.status, task.id, len(body))


def tried(work, parse, fault):
    try:
        work()
    except ValueError as error:
        # ruleid: log-of-a-foreign-exceptions-words
        log.warning("it can't be read: %s", error)
    try:
        work()
    except (OSError, KeyError) as error:
        parse(error)
        # ruleid: log-of-a-foreign-exceptions-words
        log.warning("it can't be read: %s", str(error))
    try:
        work()
    except OSError as error:
        # ok: log-of-a-foreign-exceptions-words
        log.warning("it can't be read: %s", type(error).__name__)
    try:
        work()
    except fault as error:
        # ok: log-of-a-foreign-exceptions-words
        log.warning("an attempt failed: %s", error)
