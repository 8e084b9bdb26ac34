chatto restore backup.tar.gz.age -c chatto.toml
