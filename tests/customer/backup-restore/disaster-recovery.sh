chatto restore backup.tar.gz.age -c chatto.toml
chatto keys import keys.backup -c chatto.toml
chatto start -c chatto.toml
