"""For every test."""

import signal

# Where the tests run behind a shell's `&`, SIGINT is ignored, and so it would be by every command that they interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
