chatto keys import keys.backup -c chatto.toml
