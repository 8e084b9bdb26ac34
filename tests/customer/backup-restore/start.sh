chatto start -c chatto.toml
