"""`resnet-tl` and `python -m resnet_tl`; quiet also where Ctrl-C comes before the command is imported."""

import sys

try:
    from resnet_tl.cli.main import main
except KeyboardInterrupt:
    print("resnet-tl: stopped", file=sys.stderr)
    raise SystemExit(130) from None

if __name__ == "__main__":
    raise SystemExit(main())
