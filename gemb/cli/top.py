"""gemb top: watch a running server: rates, latencies, the queue, versions, fallbacks.

    gemb top                                   # http://127.0.0.1:8000
    gemb top http://10.0.0.7:8080 --every=1
    gemb top --rounds=1                        # one look, e.g. for a script

It reads the server's /metrics twice, --every seconds apart, and shows what happened between; Ctrl-C
ends it. Percentiles are of the histogram's buckets, so they are upper bounds.
"""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_float("every", 2.0, "Seconds between two looks.", 0.1, allow_override=True)
flags.DEFINE_integer("rounds", 0, "Looks before it ends; 0: until Ctrl-C.", 0, allow_override=True)


def main(argv: list[str]) -> None:
    import sys
    import time

    from gemb.checks import UserError
    from gemb.serving.live import page, read

    if len(argv) > 1:
        raise UserError("expected one address, such as http://127.0.0.1:8000")
    address = (argv or ["http://127.0.0.1:8000"])[0].rstrip("/")
    if not address.startswith(("http://", "https://")):
        raise UserError(f"{address}: expected an address such as http://127.0.0.1:8000")
    before, looks = read(address), 0
    while True:
        time.sleep(FLAGS.every)
        now, looks = read(address), looks + 1
        text = page(address, before, now, FLAGS.every)
        if sys.stdout.isatty():
            print("\x1b[H\x1b[2J", end="")
        print(text, flush=True)
        if looks == FLAGS.rounds:
            return
        before = now


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("top")
