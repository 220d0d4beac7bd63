"""Clinical notes to masked sentence pairs: `python -m data_prep --input=... --output_dir=... --vocab_file=...`."""

from data_prep import command

if __name__ == "__main__":
    command.run()
