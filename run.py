"""The one command: `python run.py --task medical` is short for `python run.py search --task medical`."""

from harness.cli.main import main

if __name__ == "__main__":
    main()
