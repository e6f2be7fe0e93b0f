"""Nobody looks at whether a run may still be started, as with a queue that only knows how to deliver."""


def never(_original):
    return lambda _run, _now: False


BREAK = {
    "pyoco_server.model.life:is_expired": never,
    "pyoco_server.gateway.timekeeper:is_expired": never,
}
