chatto backup -c chatto.toml --encrypt
