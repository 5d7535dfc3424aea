"""The same as `peft-sentiment run`, for those who start a script."""

import sys

from peft_sentiment.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
