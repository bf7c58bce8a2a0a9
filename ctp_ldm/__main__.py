"""`python -m ctp_ldm` is the `ctp-ldm` command."""

from ctp_ldm.cli import main

if __name__ == "__main__":
    main()
