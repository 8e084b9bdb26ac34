chatto restore backup.tar.gz -c chatto.toml
