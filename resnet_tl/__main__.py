"""`python -m resnet_tl`."""

from resnet_tl.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
