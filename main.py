"""Trains or evaluates: `python main.py --config=configs/voc_largefov.py --workdir=W`."""

from segadv_jax import cli

if __name__ == "__main__":
    cli.main()
