chatto keys export -c chatto.toml -o keys.backup
