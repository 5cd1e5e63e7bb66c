"""The definitions of studies, one file each; `tools/study.py` carries them out."""
