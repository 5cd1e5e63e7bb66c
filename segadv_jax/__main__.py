"""`python -m segadv_jax COMMAND ...`."""

from segadv_jax.cli import main

if __name__ == "__main__":
    main()
