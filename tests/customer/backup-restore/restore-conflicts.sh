# Restore missing streams only, keep existing data
chatto restore backup.tar.gz -c chatto.toml --conflict=skip

# Full overwrite (destructive!)
chatto restore backup.tar.gz -c chatto.toml --conflict=overwrite
