# Default: saves to backups/<timestamp>.tar.gz
chatto backup -c chatto.toml

# Custom output path
chatto backup -c chatto.toml -o /mnt/backups/chatto-daily.tar.gz
